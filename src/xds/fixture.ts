// What the tests of this room share: certificates, resources, a server with a client, and handlers that take notes.
import { create } from "@bufbuild/protobuf";
import { ClusterSchema } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import { RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { realClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { type AdsTls, connectAds } from "./client.ts";
import { connectMemory, type MemorySnapshots, memorySnapshots } from "./memory.ts";
import { startAdsServer } from "./server.ts";
import type { NamedResource, ResourceHandler, Snapshot, TypeUrl, XdsConnection } from "./types.ts";

const hourMs = 3_600_000;
export const everyone = (): boolean => true;
export let serverTls: AdsTls;
export let clientTls: AdsTls;
export let strangerTls: AdsTls;
export let strangerRoots: string;

/** As identity/ makes them; rooms are tested with it, and do not import it. */
interface Issuer {
  certPem: string;
  issue(request: {
    commonName?: string;
    organizations?: string[];
    ipAddresses?: string[];
    lifetimeMs: number;
    usages: ("server" | "client")[];
  }): Promise<{ certPem: string; keyPem: string }>;
}
type CreateAuthority = (options: { commonName: string; clock: typeof realClock }) => Promise<Issuer>;

/** Certificates for both sides; to be awaited first. */
export async function issueCertificates(createAuthority: CreateAuthority): Promise<void> {
  const authority = await createAuthority({ commonName: "ca", clock: realClock });
  const stranger = await createAuthority({ commonName: "ca", clock: realClock });
  const server = await authority.issue({ ipAddresses: ["127.0.0.1"], lifetimeMs: hourMs, usages: ["server"] });
  const client = await authority.issue({
    commonName: "node",
    organizations: ["system:nodes"],
    lifetimeMs: hourMs,
    usages: ["client"],
  });
  const other = await stranger.issue({ commonName: "node", lifetimeMs: hourMs, usages: ["client"] });
  serverTls = { ca: authority.certPem, cert: server.certPem, key: server.keyPem };
  clientTls = { ca: authority.certPem, cert: client.certPem, key: client.keyPem };
  strangerTls = { ca: authority.certPem, cert: other.certPem, key: other.keyPem };
  strangerRoots = stranger.certPem;
}

export const cluster = (name: string): NamedResource => ({ name, message: create(ClusterSchema, { name }) });
export const assignment = (name: string): NamedResource => ({
  name,
  message: create(ClusterLoadAssignmentSchema, { clusterName: name }),
});
export const listener = (name: string): NamedResource => ({ name, message: create(ListenerSchema, { name }) });
export const route = (name: string): NamedResource => ({ name, message: create(RouteConfigurationSchema, { name }) });

export const snapshot = (version: string, parts: Partial<Record<TypeUrl, NamedResource[]>>): Snapshot => ({
  resources: Object.fromEntries(
    Object.entries(parts).map(([typeUrl, resources]) => [typeUrl, { version, resources }]),
  ) as Snapshot["resources"],
});

/** A handler that keeps the whole set, as sorted by name, and gives it on. */
export function wholeSet(take: (resources: NamedResource[], version: string) => void): ResourceHandler {
  const all = new Map<string, NamedResource>();
  return ({ changed, removed, version }) => {
    const next = new Map(all);
    for (const resource of changed) next.set(resource.name, resource);
    for (const name of removed) next.delete(name);
    take(
      [...next.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
      version,
    );
    all.clear();
    for (const [name, resource] of next) all.set(name, resource);
    return undefined;
  };
}

export const noteChanges =
  (seen: string[]): ResourceHandler =>
  ({ changed, removed }) => {
    const names = [...changed.map(({ name }) => `+${name}`).sort(), ...removed.map((name) => `-${name}`).sort()];
    seen.push(names.join(" "));
    return undefined;
  };

/** Waits until `condition` holds, polling; fails after two seconds with what was seen. */
export async function until(condition: () => boolean, seen: () => unknown): Promise<void> {
  const deadlineMs = realClock.monotonicMs() + 2_000;
  while (!condition()) {
    if (realClock.monotonicMs() > deadlineMs) throw new Error(`not reached; seen: ${JSON.stringify(seen())}`);
    await realClock.sleep(1);
  }
}

export interface Pair {
  snapshots: MemorySnapshots;
  connection: XdsConnection;
  close(): Promise<void>;
}

export async function overGrpc(): Promise<Pair> {
  const snapshots = memorySnapshots();
  const server = await startAdsServer({
    host: "127.0.0.1",
    port: 0,
    tls: serverTls,
    source: snapshots,
    authorize: everyone,
    log: silentLog,
    clock: realClock,
  });
  const connection = connectAds({
    address: `127.0.0.1:${server.port}`,
    tls: clientTls,
    log: silentLog,
    clock: realClock,
    random: seededRandom(1),
  });
  return {
    snapshots,
    connection,
    async close() {
      connection.close();
      await server.close();
    },
  };
}

export async function inMemory(): Promise<Pair> {
  const snapshots = memorySnapshots();
  const connection = connectMemory({ source: snapshots, log: silentLog, clock: realClock });
  return { snapshots, connection, close: async () => connection.close() };
}
