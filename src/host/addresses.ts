// The address plan of the inner network (ARCHITECTURE.md, conventions), as far as links and routes need it.

import { MeshbedError } from "../kernel/errors.ts";

export const bridgeIp = "172.20.0.1";
export const machinesCidr = "172.20.0.0/24";
export const servicesCidr = "10.96.0.0/12";
export const podsCidr = "10.244.0.0/16";
/** Of ServiceEntries' hosts; only sidecars know what is behind. */
export const entriesCidr = "240.240.0.0/16";
/** Port of the mTLS tunnel, on every pod IP, answered by the node's proxy. */
export const tunnelPort = 15008;

const firstNodeOctet = 10;
const firstClientOctet = 100;

/** Addresses of the node with this index (0 is the master) and of the client machine with this one (from 0). */
export const nodeIp = (index: number): string => `172.20.0.${firstNodeOctet + index}`;
export const clientIp = (index: number): string => `172.20.0.${firstClientOctet + 1 + index}`;

/** Range of pod addresses of the node with this IP: 172.20.0.11 → 10.244.1.0/24. */
export const podCidrOfNode = (nodeIp: string): string => `${podPrefixOfNode(nodeIp)}.0/24`;

/**
 * No pod's, the first of the node's range: what the node's own agents dial its pods from. Only from there a pod is reached directly;
 * whoever else runs on the node is handed to its proxy, as if he came from another node.
 */
export const podGatewayOfNode = (nodeIp: string): string => `${podPrefixOfNode(nodeIp)}.1`;

/** The last addresses of a node's range are its gateway pods': proxies themselves, what they send and get passes no proxy of the node. */
export const firstGatewayHost = 240;
export const gatewayCidrOfNode = (nodeIp: string): string => `${podPrefixOfNode(nodeIp)}.${firstGatewayHost}/28`;

function podPrefixOfNode(nodeIp: string): string {
  const octet = Number(/^172\.20\.0\.(\d+)$/.exec(nodeIp)?.[1]);
  if (!(octet >= firstNodeOctet && octet < firstClientOctet))
    throw new MeshbedError("NODE_ADDRESS_INVALID", `a node's IP is 172.20.0.10 to 172.20.0.99, not ${nodeIp}`);
  return `10.244.${octet - firstNodeOctet}`;
}
