// An endpoint as it is reached for one host, where TLS settings follow the request (auto_sni): connections are shared by host only.

import { Endpoint } from "./cluster.ts";

/** Hosts an endpoint keeps connections for; the one longest known is forgotten. */
const hostsMax = 64;

export function endpointForHost(endpoint: Endpoint, authority: string): Endpoint {
  const { tls } = endpoint.transport;
  if (!tls?.forHost) return endpoint;
  endpoint.byHost ??= new Map();
  const { byHost } = endpoint;
  const host = authority
    .toLowerCase()
    .replace(/:\d*$/, "")
    .replace(/^\[|\]$/g, "");
  const known = byHost.get(host);
  if (known !== undefined) return known;
  const oldest = byHost.size >= hostsMax ? byHost.entries().next().value : undefined;
  if (oldest !== undefined) {
    byHost.delete(oldest[0]);
    oldest[1].retire();
  }
  const transport = { ...endpoint.transport, tls: tls.forHost(host) };
  const made = new Endpoint(endpoint.address, `${endpoint.key} ${host}`, transport, endpoint.workload);
  byHost.set(host, made);
  return made;
}
