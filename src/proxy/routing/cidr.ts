// Address ranges (Envoy's CidrRange) as a test on textual addresses.

import { BlockList, isIP } from "node:net";
import type { CidrRange } from "#gen/xds/envoy/config/core/v3/address_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";

/** An IPv4 range also holds the IPv4-mapped IPv6 forms of its addresses. */
export function compileCidr({ addressPrefix, prefixLen = 0 }: CidrRange): (address: string) => boolean {
  const family = isIP(addressPrefix);
  if (family === 0 || prefixLen > (family === 4 ? 32 : 128))
    throw new MeshbedError("CIDR_INVALID", `${addressPrefix}/${prefixLen} is not an address range`);
  const list = new BlockList();
  list.addSubnet(addressPrefix, prefixLen, family === 4 ? "ipv4" : "ipv6");
  return (address) => list.check(address, address.includes(":") ? "ipv6" : "ipv4");
}
