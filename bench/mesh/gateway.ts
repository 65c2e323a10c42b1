// A gateway's translation alone: all hosts on one port from nothing, then after changes of one route each.

import { realClock } from "../../src/kernel/clock.ts";
import { createTranslator } from "../../src/mesh/translator.ts";
import type { MeshObjects } from "../../src/mesh/types.ts";
import { contentVersion } from "../../src/xds/protocol.ts";
import { typeUrls } from "../../src/xds/types.ts";
import { namespace, nodeName, objectsOf, virtualService } from "./objects.ts";

const changes = 20;
const name = "edge";
const ip = "10.244.200.2";

const meta = (extra: object = {}) => ({
  ...{ name, namespace, uid: name, resourceVersion: "1", creationTimestamp: "2026-01-01T00:00:00Z" },
  ...extra,
});
const pod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: meta({ labels: { app: name } }),
  spec: { nodeName, containers: [{ name: "istio-proxy", image: "auto" }] },
  status: { podIP: ip, phase: "Running" },
};
const gatewayOf = (services: number) => ({
  apiVersion: "networking.istio.io/v1",
  kind: "Gateway",
  metadata: meta(),
  spec: {
    selector: { app: name },
    servers: [
      {
        port: { number: 80, name: "http", protocol: "HTTP" },
        hosts: Array.from({ length: services }, (_, service) => hostOf(service)),
      },
    ],
  },
});
const hostOf = (service: number): string => `s${service}.example.com`;
const routeOf = (service: number, weight?: number) => {
  const rule = virtualService(service, weight);
  return { ...rule, spec: { ...rule.spec, hosts: [hostOf(service)], gateways: [name] } };
};

/** Milliseconds until the gateway's snapshot stands: the first from nothing, each other after one route has changed. */
export function measureGateway(services: number): number[] {
  const translator = createTranslator({
    config: { mode: "namespaces", clusterDomain: "cluster.local", trustDomain: "cluster.local", rootNamespace: "i" },
    rootsPem: "roots",
    certificateOf: () => undefined,
  });
  const nodeId = `router~${ip}~${name}.${namespace}~${namespace}.svc.cluster.local`;
  const mesh = objectsOf(services);
  let objects = {
    ...mesh,
    pods: [...mesh.pods, pod],
    gateways: [gatewayOf(services)],
    virtualServices: Array.from({ length: services }, (_, service) => routeOf(service)),
  } as unknown as MeshObjects;
  const versions = new Set<string>();
  const tookMs: number[] = [];
  for (let round = 0; round <= changes; round++) {
    if (round > 0) {
      const rules = [...objects.virtualServices];
      rules[round % services] = routeOf(round % services, 6 + round) as never;
      objects = { ...objects, virtualServices: rules };
    }
    const startMs = realClock.monotonicMs();
    translator.update(objects);
    const [table] = translator.snapshot(nodeId)!.resources[typeUrls.route]!.resources;
    versions.add(contentVersion(typeUrls.route, table!.message));
    tookMs.push(realClock.monotonicMs() - startMs);
  }
  if (versions.size !== changes + 1) throw new Error("a changed route did not change the gateway's configuration");
  return tookMs;
}
