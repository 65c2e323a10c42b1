// Which statistics a request counts in: from whom, to whom. Also the baggage that tells the tunnel's other side who we are.

import type { Metrics } from "../kernel/metrics.ts";
import type { Chain, ChainOwner, ConnectionInfo } from "./chain.ts";
import {
  type ClusterSlot,
  type Endpoint,
  type ServiceIdentity,
  unknownService,
  unknownWorkload,
  type WorkloadIdentity,
} from "./cluster.ts";
import { EdgeStats } from "./telemetry.ts";

/** Peers told apart per inbound chain; more share one "unknown". */
const peersMax = 1000;

/** Reported by the source. Without an endpoint the destination is what the cluster says, or unknown. */
export function outboundEdge(
  metrics: Metrics,
  owner: ChainOwner,
  endpoint: Endpoint | undefined,
  slot: ClusterSlot | undefined,
): EdgeStats {
  const holder = endpoint ?? slot ?? owner;
  if (holder.stats !== undefined) return holder.stats;
  const principal = endpoint?.transport.tls?.spiffeId ?? "unknown";
  holder.stats = new EdgeStats(metrics, {
    reporter: "source",
    source: owner.identity,
    destination: { ...(endpoint?.workload ?? unknownWorkload), principal },
    service: slot?.current?.service ?? unknownService,
    securityPolicy: "unknown",
  });
  return holder.stats;
}

/** Reported by the destination, for a connection from elsewhere. */
export function inboundEdge(metrics: Metrics, chain: Chain, connection: ConnectionInfo): EdgeStats {
  const { edge } = connection;
  // The identity is another object once the workload's certificate or metadata has arrived.
  if (edge !== undefined && connection.edgeOf === chain.stats && edge.destination === chain.owner.identity) return edge;
  const { identity, authenticated } = connection.peer;
  connection.edgeOf = chain.stats;
  connection.edge = peerEdge(metrics, chain, identity, authenticated);
  return connection.edge;
}

/** Reported by the destination, for a caller in this very process. Nothing crossed a wire, but both sides are known for certain. */
export function neighbourEdge(metrics: Metrics, chain: Chain, endpoint: Endpoint, source: ChainOwner): EdgeStats {
  const { neighbourStats: known } = endpoint;
  const isCurrent = endpoint.neighbourOf === chain.stats && known?.destination === chain.owner.identity;
  if (known === undefined || !isCurrent) {
    endpoint.neighbourOf = chain.stats;
    endpoint.neighbourStats = peerEdge(metrics, chain, source.identity, source.identity.principal !== "unknown");
  }
  return endpoint.neighbourStats!;
}

function peerEdge(metrics: Metrics, chain: Chain, peer: WorkloadIdentity, authenticated: boolean): EdgeStats {
  const { byPeer } = chain.stats;
  const full = byPeer.size >= peersMax;
  const source = full ? unknownWorkload : peer;
  const key = full
    ? ""
    : `${source.workload};${source.namespace};${source.canonicalRevision};${source.principal};${authenticated}`;
  let stats = byPeer.get(key);
  if (stats === undefined || stats.destination !== chain.owner.identity) {
    stats = new EdgeStats(metrics, {
      reporter: "destination",
      source,
      destination: chain.owner.identity,
      service: serviceOfChain(chain),
      securityPolicy: authenticated ? "mutual_tls" : "none",
    });
    byPeer.set(key, stats);
  }
  return stats;
}

/** What an inbound chain is reached as: the service its cluster names. */
function serviceOfChain(chain: Chain): ServiceIdentity {
  const slot = chain.kind === "http" ? chain.routes.current?.clusters[0] : chain.targets[0];
  return slot?.current?.service ?? unknownService;
}

const baggageKeys: readonly (readonly [string, keyof WorkloadIdentity])[] = [
  ["k8s.deployment.name", "workload"],
  ["k8s.namespace.name", "namespace"],
  ["service.name", "canonicalService"],
  ["service.version", "canonicalRevision"],
  ["k8s.cluster.name", "cluster"],
];

/** W3C Baggage with the keys of Istio's ambient tunnel. */
export function baggageOf(identity: WorkloadIdentity): string {
  return baggageKeys.map(([key, field]) => `${key}=${encodeURIComponent(identity[field])}`).join(",");
}

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
