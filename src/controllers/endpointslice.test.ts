// Endpoints of Services: conditions, named ports, ports mode, splitting, the older Endpoints object, load balancer addresses.

import { afterEach, expect, test } from "bun:test";
import { deployments, endpointSlices, endpoints, pods, services } from "../api/resources.ts";
import type { EndpointSlice, Pod, Service } from "../api/types.ts";
import { portGroups } from "./endpoint-ports.ts";
import { plan as planEndpoints } from "./endpoints.ts";
import { plan } from "./endpointslice.ts";
import { isRolledOut, startTestCluster, type TestCluster, webDeployment } from "./fixture.test.ts";

let cluster: TestCluster | undefined;
afterEach(async () => {
  await cluster?.stop();
  cluster = undefined;
});

const service = (spec: object = {}): Service =>
  ({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web", namespace: "default", uid: "s", resourceVersion: "1", creationTimestamp: "" },
    spec: { selector: { app: "web" }, ports: [{ name: "http", port: 80, targetPort: "http" }], ...spec },
  }) as Service;
const pod = (
  name: string,
  options: { ready?: boolean; deleted?: boolean; port?: number; annotations?: Record<string, string> } = {},
): Pod =>
  ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace: "default",
      uid: `uid-${name}`,
      labels: { app: "web" },
      ...(options.annotations && { annotations: options.annotations }),
      ...(options.deleted && { deletionTimestamp: "2026-01-01T00:00:00Z" }),
    },
    spec: {
      nodeName: "worker1",
      containers: [{ name: "web", ports: [{ name: "http", containerPort: options.port ?? 8080 }] }],
    },
    status: {
      phase: "Running",
      podIP: `10.244.1.${name.replace(/\D/g, "")}`,
      conditions: [{ type: "Ready", status: options.ready === false ? "False" : "True" }],
    },
  }) as unknown as Pod;
const slices = (of: Service, list: Pod[], existing: EndpointSlice[] = []) =>
  plan(of, portGroups(of, list), existing, () => undefined);
const stored = (drafts: unknown[]) =>
  drafts.map((draft, i) =>
    structuredClone({
      ...(draft as EndpointSlice),
      metadata: { ...(draft as EndpointSlice).metadata, name: `slice${i}` },
    }),
  );

test("an endpoint is ready while its pod is, serving while it winds down", () => {
  const [draft] = slices(service(), [pod("p1"), pod("p2", { ready: false }), pod("p3", { deleted: true })]).create;
  expect(draft!.ports).toEqual([{ name: "http", port: 8080, protocol: "TCP" }]);
  expect(draft!.endpoints!.map(({ addresses, conditions }) => [addresses[0], conditions])).toEqual([
    ["10.244.1.1", { ready: true, serving: true, terminating: false }],
    ["10.244.1.2", { ready: false, serving: false, terminating: false }],
    ["10.244.1.3", { ready: false, serving: true, terminating: true }],
  ] as never);
  expect(draft!.endpoints![0]).toMatchObject({
    nodeName: "worker1",
    targetRef: { kind: "Pod", name: "p1", uid: "uid-p1" },
  });
});

test("publishNotReadyAddresses makes every endpoint ready", () => {
  const [draft] = slices(service({ publishNotReadyAddresses: true }), [pod("p1", { ready: false })]).create;
  expect(draft!.endpoints![0]!.conditions!.ready).toBe(true);
});

test("pods that name different ports, or got different ones in ports mode, are in slices of their own", () => {
  const annotations = { "meshbed.io/ports": '{"8080": 41003}' };
  const { create } = slices(service(), [pod("p1"), pod("p2", { port: 9090 }), pod("p3", { annotations })]);
  expect(create.map(({ ports, endpoints: list }) => [ports![0]!.port, list!.length])).toEqual([
    [8080, 1],
    [9090, 1],
    [41003, 1],
  ]);
});

test("250 endpoints fill three slices, one more changes one slice, and nothing changes when nothing changed", () => {
  const list = Array.from({ length: 250 }, (_, i) => pod(`p${i}`));
  const first = slices(service(), list);
  expect(first.create.map((draft) => draft.endpoints!.length)).toEqual([100, 100, 50]);
  const existing = stored(first.create);
  expect(slices(service(), list, existing)).toEqual({ create: [], update: [], delete: [] });
  const more = slices(service(), [...list, pod("p250")], existing);
  expect([more.create.length, more.update.length, more.delete.length]).toEqual([0, 1, 0]);
  expect(more.update[0]!.endpoints!.length).toBe(51);
  const fewer = slices(service(), list.slice(0, 3), existing);
  expect(fewer.update.length + fewer.delete.length).toBe(3);
  expect(fewer.create).toEqual([]);
});

test("a Service without pods keeps one empty slice; one without selector is left alone", () => {
  const first = slices(service(), []);
  expect(first.create.map((draft) => draft.endpoints)).toEqual([[]]);
  const existing = stored(first.create);
  expect(slices(service(), [], existing)).toEqual({ create: [], update: [], delete: [] });
  const filled = slices(service(), [pod("p1")], existing);
  expect([filled.create.length, filled.update.length, filled.delete.length]).toEqual([1, 0, 1]);
  expect(slices(service({ selector: undefined }), [pod("p1")]).create).toEqual([]);
});

test("Endpoints list ready and not ready addresses and leave out what terminates", () => {
  const list = [pod("p1"), pod("p2", { ready: false }), pod("p3", { deleted: true })];
  const [subset] = planEndpoints(service(), portGroups(service(), list)).subsets!;
  expect(subset!.addresses!.map(({ ip }) => ip)).toEqual(["10.244.1.1"]);
  expect(subset!.notReadyAddresses!.map(({ ip }) => ip)).toEqual(["10.244.1.2"]);
  expect(planEndpoints(service(), []).subsets).toBeUndefined();
});

test("slices, Endpoints and the load balancer's addresses follow the pods", async () => {
  cluster = await startTestCluster({ nodes: 2 });
  const { client, until } = cluster;
  const gateway = webDeployment({ replicas: 1 }, "gateway") as unknown as {
    spec: { template: { spec: { hostNetwork?: boolean } } };
  };
  gateway.spec.template.spec.hostNetwork = true;
  await client.create(deployments, gateway as never);
  const spec = {
    type: "LoadBalancer" as const,
    selector: { app: "gateway" },
    ports: [{ name: "http", port: 80, targetPort: 8080 as never }],
  };
  const created = await client.create(services, {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "gateway", namespace: "default" },
    spec,
  });
  await until("ready", () => isRolledOut(client, "gateway"));
  await cluster.settle();
  const ip = (await client.list(pods, { namespace: "default" })).items[0]!.status!.podIP!;
  const ingress = async () => (await client.get(services, "default", "gateway")).status?.loadBalancer?.ingress;
  expect(await ingress()).toEqual([{ ip, ipMode: "VIP" }]);
  const found = (await client.get(endpoints, "default", "gateway")).subsets!;
  expect(found[0]!.addresses!.map((address) => address.ip)).toEqual([ip]);
  await client.patch(deployments, "default", "gateway", { spec: { replicas: 0 } });
  await until("no address", async () => ((await ingress()) ?? []).length === 0);
  await client.delete(services, "default", "gateway", { uid: created.metadata.uid });
  await until("all gone", async () => {
    const left = (await client.list(endpointSlices, { namespace: "default" })).items.filter(
      (slice) => slice.metadata.labels?.["kubernetes.io/service-name"] === "gateway",
    );
    return (
      left.length === 0 &&
      (await client.list(endpoints, { namespace: "default" })).items.every(
        ({ metadata }) => metadata.name !== "gateway",
      )
    );
  });
});
