// How long the control plane needs for a translation, whole and after one change, and how that grows with the services.

import { realClock } from "../src/kernel/clock.ts";
import { createTranslator, noObjects } from "../src/mesh/translator.ts";
import type { MeshObjects } from "../src/mesh/types.ts";
import { encodeResource } from "../src/xds/protocol.ts";
import type { Snapshot, TypeUrl } from "../src/xds/types.ts";

const sidecars = 50;
const repeats = 20;

const meta = (name: string, extra: object = {}) => ({
  name,
  namespace: "bench",
  uid: name,
  resourceVersion: "1",
  creationTimestamp: "2026-01-01T00:00:00Z",
  ...extra,
});
const address = (index: number): string => `10.244.${index >> 8}.${index & 255}`;
const pod = (index: number, service: number) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: meta(`pod-${index}`, { labels: { app: `s${service}`, version: index % 2 ? "v1" : "v2" } }),
  spec: { nodeName: "n", containers: [] },
  status: { podIP: address(index), phase: "Running" },
});
const endpointSlice = (service: number, ready = true) => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  addressType: "IPv4",
  metadata: meta(`s${service}`, { labels: { "kubernetes.io/service-name": `s${service}` } }),
  ports: [{ name: "http", port: 8080 }],
  endpoints: [0, 1].map((n) => ({
    addresses: [address(service * 2 + n)],
    conditions: { ready: ready || n === 0 },
    targetRef: { kind: "Pod", namespace: "bench", name: `pod-${service * 2 + n}` },
  })),
});
const virtualService = (service: number, weight = 5) => ({
  apiVersion: "networking.istio.io/v1",
  kind: "VirtualService",
  metadata: meta(`s${service}`),
  spec: {
    hosts: [`s${service}`],
    http: [
      {
        route: [
          { destination: { host: `s${service}`, subset: "v1" }, weight: 100 - weight },
          { destination: { host: `s${service}`, subset: "v2" }, weight },
        ],
      },
    ],
  },
});

function objectsOf(services: number): MeshObjects {
  const each = <T>(make: (index: number) => T): T[] => Array.from({ length: services }, (_, index) => make(index));
  return {
    ...noObjects,
    namespaces: [
      { apiVersion: "v1", kind: "Namespace", metadata: meta("bench", { labels: { "istio-injection": "enabled" } }) },
    ],
    nodes: [],
    pods: each((s) => [pod(s * 2, s), pod(s * 2 + 1, s)]).flat(),
    services: each((s) => ({
      apiVersion: "v1",
      kind: "Service",
      metadata: meta(`s${s}`),
      spec: {
        clusterIP: `10.97.${s >> 8}.${s & 255}`,
        selector: { app: `s${s}` },
        ports: [{ name: "http", port: 80 }],
      },
    })),
    endpointSlices: each((s) => endpointSlice(s)),
    secrets: [],
    gateways: [],
    virtualServices: each((s) => virtualService(s)),
    destinationRules: each((s) => ({
      apiVersion: "networking.istio.io/v1",
      kind: "DestinationRule",
      metadata: meta(`s${s}`),
      spec: {
        host: `s${s}`,
        subsets: [
          { name: "v1", labels: { version: "v1" } },
          { name: "v2", labels: { version: "v2" } },
        ],
      },
    })),
  } as unknown as MeshObjects;
}

function measure(services: number): void {
  const translator = createTranslator({
    config: { mode: "namespaces", clusterDomain: "cluster.local", trustDomain: "cluster.local", rootNamespace: "i" },
    rootsPem: "roots",
    certificateOf: () => undefined,
  });
  const ids = Array.from(
    { length: Math.min(sidecars, services * 2) },
    (_, n) => `sidecar~${address(n)}~pod-${n}.bench~bench.svc.cluster.local`,
  );
  /** What the server does per change: every connected node's snapshot, and the bytes of what is new in it. */
  const translate = (objects: MeshObjects): number => {
    const startMs = realClock.monotonicMs();
    translator.update(objects);
    for (const id of ids) encode(translator.snapshot(id)!);
    return realClock.monotonicMs() - startMs;
  };
  let objects = objectsOf(services);
  const fullMs = translate(objects);
  const endpointMs: number[] = [];
  const routeMs: number[] = [];
  for (let round = 0; round < repeats; round++) {
    const slices = [...objects.endpointSlices];
    slices[round % services] = endpointSlice(round % services, round >= services) as never;
    objects = { ...objects, endpointSlices: slices };
    endpointMs.push(translate(objects));
    const rules = [...objects.virtualServices];
    rules[round % services] = virtualService(round % services, 6 + round) as never;
    objects = { ...objects, virtualServices: rules };
    routeMs.push(translate(objects));
  }
  const text = (values: number[]): string => {
    const sorted = values.toSorted((a, b) => a - b);
    return `${sorted[repeats >> 1]!.toFixed(1)} ms (max ${sorted.at(-1)!.toFixed(1)})`;
  };
  const memoryMiB = (process.memoryUsage.rss() / 2 ** 20).toFixed(0);
  console.log(
    `${services} services, ${services * 2} endpoints, ${services} routes, ${ids.length} sidecars: full ${fullMs.toFixed(0)} ms, ` +
      `endpoint change ${text(endpointMs)}, route change ${text(routeMs)}, ${memoryMiB} MiB`,
  );
}

function encode(snapshot: Snapshot): void {
  for (const [typeUrl, group] of Object.entries(snapshot.resources))
    for (const { message } of group.resources) encodeResource(typeUrl as TypeUrl, message);
}

for (const services of [100, 300, 1_000]) measure(services);
