// The mesh end to end: real API, real informers, real gRPC over loopback; prints how long a change takes.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Message } from "@bufbuild/protobuf";
import type { ClusterLoadAssignment } from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import type { RouteConfiguration } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import type { Secret as SdsSecret } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type { Workload } from "#gen/xds/meshbed/workload/v1/workload_pb.js";
import { allKinds } from "../api/kinds/all.ts";
import * as resources from "../api/resources.ts";
import { createApi } from "../apiserver/api.ts";
import { createClient } from "../client/client.ts";
import type { Client } from "../client/types.ts";
import { type Authority, createAuthority } from "../identity/authority.ts";
import { realClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom, systemRandom } from "../kernel/random.ts";
import { createMemoryStore } from "../store/memory.ts";
import { type AdsTls, connectAds } from "../xds/client.ts";
import type { Peer } from "../xds/server.ts";
import { type TypeUrl, typeUrls, type XdsConnection, type XdsSource } from "../xds/types.ts";
import { mayAsk } from "./admission.ts";
import { type Mesh, startMesh } from "./mesh.ts";
import type { Model } from "./types.ts";

const sidecarId = "sidecar~10.244.0.2~web-1.video~video.svc.cluster.local";
const hourMs = 3_600_000;

let client: Client;
let authority: Authority;
let serverTls: AdsTls;
let clientTls: AdsTls;
let mesh: Mesh;
let connection: XdsConnection;

const start = (port: number): Promise<Mesh> =>
  startMesh({
    client,
    authority,
    adsHost: "127.0.0.1",
    adsPort: port,
    adsTls: serverTls,
    clock: realClock,
    log: silentLog,
    mode: "namespaces",
  });

beforeAll(async () => {
  const api = await createApi({
    store: createMemoryStore(),
    kinds: allKinds,
    clock: realClock,
    random: systemRandom,
    log: silentLog,
  });
  client = createClient(api.transport);
  authority = await createAuthority({ commonName: "mesh", clock: realClock });
  const server = await authority.issue({ ipAddresses: ["127.0.0.1"], lifetimeMs: hourMs, usages: ["server"] });
  const node = await authority.issue({
    commonName: "system:node:master",
    organizations: ["system:nodes"],
    lifetimeMs: hourMs,
    usages: ["client"],
  });
  serverTls = { ca: authority.certPem, cert: server.certPem, key: server.keyPem };
  clientTls = { ca: authority.certPem, cert: node.certPem, key: node.keyPem };
  await client.create(resources.namespaces, {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: "video", labels: { "istio-injection": "enabled" } },
  });
  await client.create(resources.services, {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web", namespace: "video" },
    spec: { selector: { app: "web" }, ports: [{ name: "http", port: 80, targetPort: 8080 }] },
  });
  await createPod("web-1", "10.244.0.2");
  mesh = await start(0);
  await mesh.ready;
  connection = connectAds({
    address: `127.0.0.1:${mesh.adsPort}`,
    tls: clientTls,
    log: silentLog,
    clock: realClock,
    random: seededRandom(1),
  });
});

afterAll(async () => {
  connection.close();
  await mesh.close();
});

async function createPod(name: string, ip: string): Promise<void> {
  const pod = await client.create(resources.pods, {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "video", labels: { app: "web" } },
    spec: { nodeName: "master", containers: [{ name: "web", image: "web" }] },
  });
  await client.update(resources.pods, { ...pod, status: { phase: "Running", podIP: ip } }, "status");
}

const slice = (addresses: string[]) => ({
  apiVersion: "discovery.k8s.io/v1" as const,
  kind: "EndpointSlice" as const,
  metadata: { name: "web-1", namespace: "video", labels: { "kubernetes.io/service-name": "web" } },
  addressType: "IPv4" as const,
  ports: [{ name: "http", port: 8080 }],
  endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
});

/** The latest of one subscription, and a wait for the next state that satisfies a condition. */
function follow<T extends Message>(source: XdsSource, typeUrl: TypeUrl, names: "*" | string[]) {
  let latest: readonly T[] = [];
  let calls = 0;
  let wake = (): void => {};
  const all = new Map<string, T>();
  source.subscribe(typeUrl, names, ({ changed, removed }) => {
    for (const { name, message } of changed) all.set(name, message as T);
    for (const name of removed) all.delete(name);
    latest = [...all.values()];
    calls++;
    wake();
    return undefined;
  });
  return {
    calls: () => calls,
    latest: () => latest,
    async until(condition: (resources: readonly T[]) => boolean): Promise<readonly T[]> {
      const timeout = AbortSignal.timeout(3_000);
      while (!condition(latest)) {
        if (timeout.aborted) throw new Error(`not reached; latest: ${JSON.stringify(latest, bigints).slice(0, 2_000)}`);
        await Promise.race([new Promise<void>((resolve) => (wake = resolve)), realClock.sleep(100)]);
      }
      return latest;
    },
  };
}
const bigints = (_key: string, value: unknown): unknown => (typeof value === "bigint" ? String(value) : value);

const addressesOf = (assignments: readonly ClusterLoadAssignment[]): string[] =>
  assignments.flatMap(({ endpoints }) =>
    endpoints.flatMap(({ lbEndpoints }) =>
      lbEndpoints.map(({ hostIdentifier: host }) => {
        const address = host.case === "endpoint" ? host.value.address?.address : undefined;
        return address?.case === "socketAddress" ? address.value.address : "";
      }),
    ),
  );

const clusterName = "outbound|80||web.video.svc.cluster.local";

describe("the mesh over ADS", () => {
  test("tells a node of its pods, and a sidecar its certificate", async () => {
    const workloads = follow<Workload>(
      connection.open("node~172.20.0.10~master~cluster.local"),
      typeUrls.workload,
      "*",
    );
    await workloads.until((list) => list.length === 1);
    expect(workloads.latest()[0]).toMatchObject({ name: "video/web-1", address: "10.244.0.2", nodeId: sidecarId });
    const secrets = follow<SdsSecret>(connection.open(sidecarId), typeUrls.secret, ["default", "ROOTCA"]);
    await secrets.until((list) => list.length === 2);
    const own = secrets.latest().find(({ name }) => name === "default");
    if (own?.type.case !== "tlsCertificate") throw new Error("no certificate");
    const chain = own.type.value.certificateChain?.specifier;
    expect(new TextDecoder().decode(chain?.value as Uint8Array)).toStartWith("-----BEGIN CERTIFICATE-----");
  });

  test("gives a node nothing of another node's pods, and nobody else anything", () => {
    const model = { workloadByNodeId: new Map([[sidecarId, { nodeName: "master" }]]) } as unknown as Model;
    const node = (name: string): Peer => ({ commonName: `system:node:${name}`, organizations: ["system:nodes"] });
    expect(mayAsk(node("master"), sidecarId, {}, model)).toBe(true);
    expect(mayAsk(node("worker1"), sidecarId, {}, model)).toBe(false);
    expect(mayAsk(node("worker1"), "node~172.20.0.11~worker1~cluster.local", {}, model)).toBe(true);
    expect(mayAsk(node("worker1"), "node~172.20.0.10~master~cluster.local", {}, model)).toBe(false);
    expect(mayAsk({ commonName: "jane", organizations: [] }, sidecarId, {}, model)).toBe(false);
    expect(mayAsk({ commonName: "system:node:master", organizations: [] }, sidecarId, {}, model)).toBe(false);
    expect(mayAsk({ commonName: "admin", organizations: ["system:masters"] }, sidecarId, {}, model)).toBe(true);
  });

  test("carries an endpoint change from the API to the client in milliseconds", async () => {
    const source = connection.open(sidecarId);
    const endpoints = follow<ClusterLoadAssignment>(source, typeUrls.endpoint, [clusterName]);
    await client.create(resources.endpointSlices, slice(["10.244.9.0"]));
    await endpoints.until((list) => addressesOf(list).includes("10.244.9.0"));
    const takenMs: number[] = [];
    for (let round = 1; round <= 50; round++) {
      const current = await client.get(resources.endpointSlices, "video", "web-1");
      const startMs = realClock.monotonicMs();
      const address = `10.244.9.${round}`;
      await client.update(resources.endpointSlices, { ...current, endpoints: slice([address]).endpoints });
      await endpoints.until((list) => addressesOf(list).includes(address));
      takenMs.push(realClock.monotonicMs() - startMs);
      await realClock.sleep(12);
    }
    takenMs.sort((a, b) => a - b);
    const medianMs = takenMs[25]!;
    console.log(`endpoint change → handler: median ${medianMs.toFixed(1)} ms, max ${takenMs.at(-1)!.toFixed(1)} ms`);
    expect(medianMs).toBeLessThan(100);
    source.close();
  });

  test("carries a route change, and does not push what stayed the same", async () => {
    const source = connection.open(sidecarId);
    const routes = follow<RouteConfiguration>(source, typeUrls.route, ["80"]);
    const endpoints = follow<ClusterLoadAssignment>(source, typeUrls.endpoint, [clusterName]);
    await routes.until((list) => list.length === 1);
    await endpoints.until((list) => list.length === 1);
    const endpointCalls = endpoints.calls();
    const startMs = realClock.monotonicMs();
    await client.create(resources.virtualServices, {
      apiVersion: "networking.istio.io/v1",
      kind: "VirtualService",
      metadata: { name: "web", namespace: "video" },
      spec: { hosts: ["web"], http: [{ name: "mine", route: [{ destination: { host: "web" } }] }] },
    });
    await routes.until((list) => list[0]?.virtualHosts[0]?.routes[0]?.name === "mine");
    console.log(`route change → handler: ${(realClock.monotonicMs() - startMs).toFixed(1)} ms`);
    expect(endpoints.calls()).toBe(endpointCalls);
    await client.delete(resources.virtualServices, "video", "web");
    await routes.until((list) => list[0]?.virtualHosts[0]?.routes[0]?.name === "default");
    source.close();
  });

  test("says in an Event on the pod what its proxy refuses", async () => {
    const source = connection.open(sidecarId);
    source.subscribe(typeUrls.cluster, "*", ({ changed }) => new Map(changed.map(({ name }) => [name, "is too blue"])));
    const deadlineMs = realClock.monotonicMs() + 3_000;
    let found: { message?: string; involvedObject?: { kind?: string; name?: string } } | undefined;
    while (found === undefined && realClock.monotonicMs() < deadlineMs) {
      await realClock.sleep(20);
      const { items } = await client.list(resources.events, { namespace: "video" });
      found = items.find(({ reason }) => reason === "ConfigurationRefused");
    }
    expect(found).toMatchObject({ involvedObject: { kind: "Pod", name: "web-1" } });
    expect(found?.message).toStartWith("the proxy does not take configuration it was sent (Cluster): ");
    expect(found?.message).toContain(`${clusterName}: is too blue`);
    const stream = mesh.proxyStatus().find(({ types }) => types.some(({ refused }) => clusterName in refused));
    expect(stream?.nodeId).toBe(sidecarId);
    source.close();
  });

  test("says in an Event what it does not carry out", async () => {
    await client.create(resources.destinationRules, {
      apiVersion: "networking.istio.io/v1",
      kind: "DestinationRule",
      metadata: { name: "web", namespace: "video" },
      spec: { host: "web", trafficPolicy: { loadBalancer: { simple: "RANDOM", warmupDurationSecs: "10s" } } },
    });
    const deadlineMs = realClock.monotonicMs() + 3_000;
    let messages: (string | undefined)[] = [];
    while (messages.length === 0 && realClock.monotonicMs() < deadlineMs) {
      await realClock.sleep(20);
      const { items } = await client.list(resources.events, { namespace: "video" });
      messages = items.filter(({ reason }) => reason === "NotCarriedOut").map(({ message }) => message);
    }
    expect(messages).toEqual([
      "spec.trafficPolicy.loadBalancer.warmup: has no effect: only ROUND_ROBIN and LEAST_REQUEST warm up",
    ]);
  });

  test("a restarted control plane tells connected proxies nothing until it has read everything", async () => {
    const source = connection.open(sidecarId);
    const endpoints = follow<ClusterLoadAssignment>(source, typeUrls.endpoint, [clusterName]);
    await endpoints.until((list) => addressesOf(list).length === 1);
    const before = addressesOf(endpoints.latest());
    const calls = endpoints.calls();
    const { adsPort } = mesh;
    await mesh.close();
    mesh = await start(adsPort);
    await mesh.ready;
    const acked = () =>
      mesh
        .proxyStatus()
        .some(({ nodeId, types }) => nodeId === sidecarId && types.some(({ state }) => state.kind === "acked"));
    const deadlineMs = realClock.monotonicMs() + 5_000;
    while (!acked() && realClock.monotonicMs() < deadlineMs) await realClock.sleep(10);
    expect(acked()).toBe(true);
    expect(addressesOf(endpoints.latest())).toEqual(before);
    expect(endpoints.calls()).toBe(calls);
    source.close();
  });
});
