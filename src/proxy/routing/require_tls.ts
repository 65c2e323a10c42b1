// VirtualHost.require_tls: sends a request that came in plain to https.

import { BlockList, isIPv4 } from "node:net";
import type { ConnectionInfo } from "../chain.ts";
import type { RequestView } from "../http/request.ts";
import type { Route } from "./route.ts";

/** `external`: only from outside (EXTERNAL_ONLY). */
export type TlsRequirement = "all" | "external" | undefined;

/** 301, authority and path as they are. */
export const redirectToHttps: Route = {
  name: "require-tls",
  decorator: undefined,
  path: { kind: "prefix", value: "/", ignoreCase: false },
  tests: [],
  action: {
    kind: "redirect",
    status: 301,
    // The port of plain HTTP means nothing to https.
    location: ({ authority, path }) => `https://${authority.replace(/:80$/, "")}${path}`,
  },
  responseHeaders: [],
  filterSettings: new Map(),
  filtersOff: undefined,
  rateLimits: undefined,
  cors: undefined,
};

/** Away from the edge, the proxy in front tells how the client came and whether it is one of ours. */
export function lacksTls(
  requirement: TlsRequirement,
  request: RequestView,
  connection: ConnectionInfo,
  edge: boolean,
): boolean {
  if (requirement === undefined) return false;
  const scheme = (edge ? undefined : request.header("x-forwarded-proto")) ?? (connection.secure ? "https" : "http");
  if (scheme === "https") return false;
  if (requirement === "all") return true;
  const internal = edge
    ? request.header("x-forwarded-for") === undefined && isPrivate(connection.remoteAddress)
    : request.header("x-envoy-internal") === "true";
  return !internal;
}

/** RFC 1918, RFC 4193 and loopback, which Envoy calls internal. */
const privateRanges = new BlockList();
for (const [network, length] of [
  ["10.0.0.0", 8],
  ["172.16.0.0", 12],
  ["192.168.0.0", 16],
  ["127.0.0.0", 8],
] as const)
  privateRanges.addSubnet(network, length, "ipv4");
privateRanges.addSubnet("fd00::", 8, "ipv6");
privateRanges.addAddress("::1", "ipv6");

const isPrivate = (address: string): boolean => privateRanges.check(address, isIPv4(address) ? "ipv4" : "ipv6");
