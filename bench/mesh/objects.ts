// The mesh that is measured: services of two pods each, every one with two subsets and a route between them.

import { noObjects } from "../../src/mesh/translator.ts";
import type { MeshObjects } from "../../src/mesh/types.ts";

/** Of every service, and where its pods listen: ports that no other program of this machine is likely to have. */
const servicePort = 27_080;
const containerPort = 27_081;
export const namespace = "bench";
export const nodeName = "n";

const meta = (name: string, extra: object = {}) => ({
  name,
  namespace,
  uid: name,
  resourceVersion: "1",
  creationTimestamp: "2026-01-01T00:00:00Z",
  ...extra,
});
/** So many pods are on the node whose proxy is measured; the rest are elsewhere. */
export const sidecars = 50;
export const address = (index: number): string => `10.244.${index >> 8}.${index & 255}`;
const pod = (index: number, service: number) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: meta(`pod-${index}`, { labels: { app: `s${service}`, version: index % 2 ? "v1" : "v2" } }),
  spec: { nodeName: index < sidecars ? nodeName : "elsewhere", containers: [{ name: "main", image: "main" }] },
  status: { podIP: address(index), phase: "Running" },
});
export const endpointSlice = (service: number, ready = true) => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  addressType: "IPv4",
  metadata: meta(`s${service}`, { labels: { "kubernetes.io/service-name": `s${service}` } }),
  ports: [{ name: "http", port: containerPort }],
  endpoints: [0, 1].map((n) => ({
    addresses: [address(service * 2 + n)],
    conditions: { ready: ready || n === 0 },
    targetRef: { kind: "Pod", namespace, name: `pod-${service * 2 + n}` },
  })),
});
export const virtualService = (service: number, weight = 5) => ({
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

export function objectsOf(services: number): MeshObjects {
  const each = <T>(make: (index: number) => T): T[] => Array.from({ length: services }, (_, index) => make(index));
  return {
    ...noObjects,
    namespaces: [
      { apiVersion: "v1", kind: "Namespace", metadata: meta(namespace, { labels: { "istio-injection": "enabled" } }) },
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
        ports: [{ name: "http", port: servicePort, targetPort: containerPort }],
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
