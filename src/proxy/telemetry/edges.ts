// Which statistics a request counts in: from whom, to whom. Also the baggage that tells the tunnel's other side who we are.

import { isIPv4 } from "node:net";
import type { Chain, ChainOwner, ConnectionInfo } from "../chain.ts";
import {
  type ClusterSlot,
  type Endpoint,
  type ServiceIdentity,
  unknownService,
  unknownWorkload,
  type WorkloadIdentity,
} from "../clusters/cluster.ts";
import { standardTelemetry } from "./options.ts";
import type { SeriesRegistry } from "./series.ts";
import { type EdgeLabels, EdgeStats } from "./telemetry.ts";

/** Peers told apart per inbound chain; more share one "unknown". */
const peersMax = 1000;

/**
 * Reported by the source. Without an endpoint the destination is what the cluster says, or unknown.
 * `host`: the request's, for a destination without a name.
 */
export function outboundEdge(
  registry: SeriesRegistry,
  chain: Chain,
  endpoint: Endpoint | undefined,
  slot: ClusterSlot | undefined,
  host: string,
): EdgeStats {
  const { owner, telemetry } = chain;
  const holder = endpoint ?? slot ?? owner;
  let stats = holder.stats;
  if (stats === undefined || stats.options !== telemetry) {
    const principal = endpoint?.transport.tls?.spiffeId ?? "unknown";
    const labels: EdgeLabels = {
      reporter: "source",
      source: owner.identity,
      destination: { ...(endpoint?.workload ?? unknownWorkload), principal },
      service: slot?.current?.service ?? unknownService,
      securityPolicy: "unknown",
    };
    stats = new EdgeStats(registry, labels, telemetry);
    holder.stats = stats;
  }
  const service = slot?.current?.service ?? unknownService;
  if (service.host !== unknownService.host || host === "") return stats;
  // PassthroughCluster and BlackHoleCluster have a name, but no host; nobody need configure that requests give it.
  const isStandard = telemetry === standardTelemetry && service !== unknownService;
  return isStandard || telemetry.hostFallback ? stats.ofHost(host) : stats;
}

/** Reported by the destination, for a connection from elsewhere. */
export function inboundEdge(registry: SeriesRegistry, chain: Chain, connection: ConnectionInfo): EdgeStats {
  const { edge } = connection;
  // The identity is another object once the workload's certificate or metadata has arrived.
  if (edge !== undefined && connection.edgeOf === chain.stats && isCurrent(edge, chain)) return edge;
  const { identity, authenticated } = connection.peer;
  connection.edgeOf = chain.stats;
  connection.edge = peerEdge(registry, chain, identity, authenticated);
  return connection.edge;
}

const isCurrent = (edge: EdgeStats, chain: Chain): boolean =>
  edge.destination === chain.owner.identity && edge.options === chain.telemetry;

/** Reported by the destination, for a caller in this very process. Nothing crossed a wire, but both sides are known for certain. */
export function neighbourEdge(
  registry: SeriesRegistry,
  chain: Chain,
  endpoint: Endpoint,
  source: ChainOwner,
): EdgeStats {
  const { neighbourStats: before } = endpoint;
  if (before === undefined || endpoint.neighbourOf !== chain.stats || !isCurrent(before, chain)) {
    endpoint.neighbourOf = chain.stats;
    endpoint.neighbourStats = peerEdge(registry, chain, source.identity, source.identity.principal !== "unknown");
  }
  return endpoint.neighbourStats!;
}

function peerEdge(registry: SeriesRegistry, chain: Chain, peer: WorkloadIdentity, authenticated: boolean): EdgeStats {
  const { byPeer } = chain.stats;
  const nameOf = (who: WorkloadIdentity): string =>
    `${who.workload};${who.namespace};${who.canonicalRevision};${who.principal};${authenticated}`;
  let key = nameOf(peer);
  let source = peer;
  if (!byPeer.has(key) && byPeer.size >= peersMax) {
    source = unknownWorkload;
    key = "";
  }
  let stats = byPeer.get(key);
  if (stats === undefined || !isCurrent(stats, chain)) {
    const labels: EdgeLabels = {
      reporter: "destination",
      source,
      destination: chain.owner.identity,
      service: serviceOfChain(chain),
      securityPolicy: authenticated ? "mutual_tls" : "none",
    };
    stats = new EdgeStats(registry, labels, chain.telemetry, () => byPeer.delete(key));
    byPeer.set(key, stats);
  }
  return stats;
}

/** What an inbound chain is reached as: the service its cluster names. */
function serviceOfChain(chain: Chain): ServiceIdentity {
  const slot = chain.kind === "http" ? chain.routes.current?.clusters[0] : chain.targets[0];
  return slot?.current?.service ?? unknownService;
}

const baggageKeys: readonly (readonly [string, Exclude<keyof WorkloadIdentity, "address">])[] = [
  ["k8s.deployment.name", "workload"],
  ["k8s.namespace.name", "namespace"],
  ["service.name", "canonicalService"],
  ["service.version", "canonicalRevision"],
  ["k8s.cluster.name", "cluster"],
];

/** What a tunnel's other side is told of the caller, as Istio's ambient tunnel does: W3C Baggage, and its own address (RFC 7239). */
export function callerFields(identity: WorkloadIdentity): string {
  const baggage = baggageKeys.map(([key, field]) => `${key}=${encodeURIComponent(identity[field])}`).join(",");
  const forwarded = identity.address === undefined ? "" : `forwarded: for=${identity.address}\r\n`;
  return `baggage: ${baggage}\r\n${forwarded}`;
}

/** The address in a field that `callerFields` has written; undefined for any other. */
export const callerAddress = (forwarded: string): string | undefined => {
  const [, address] = /^for=([\d.]+)$/.exec(forwarded) ?? [];
  return address !== undefined && isIPv4(address) ? address : undefined;
};

/** The caller as its authenticated proxy describes it; the principal comes from its certificate. */
export function workloadOfBaggage(baggage: string, principal: string): WorkloadIdentity {
  const identity: WorkloadIdentity = { ...unknownWorkload, principal };
  for (const part of baggage.split(",")) {
    const [key, value] = part.trim().split("=", 2);
    const field = baggageKeys.find(([name]) => name === key)?.[1];
    if (field && value && /^[\w.%-]{1,256}$/.test(value)) identity[field] = value;
  }
  // A certificate proves the namespace; a claim to another one is not believed.
  const namespace = /^spiffe:\/\/[^/]+\/ns\/([^/]+)\//.exec(principal)?.[1];
  if (namespace) identity.namespace = namespace;
  return identity;
}
