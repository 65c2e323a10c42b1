import { expect, test } from "bun:test";
import { completeCluster, type Manifested } from "./offline.ts";

const deployment: Manifested = {
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "web", namespace: "video" },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: "web" } },
    template: {
      metadata: { labels: { app: "web", version: "v1" } },
      spec: { containers: [{ name: "web", ports: [{ name: "http", containerPort: 8080 }] }] },
    },
  },
};
const service: Manifested = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "web", namespace: "video" },
  spec: { selector: { app: "web" }, ports: [{ name: "http", port: 80, targetPort: "http" }] },
};

test("makes pods of a Deployment's template, and endpoints with the numbers of named ports", () => {
  const objects = completeCluster([deployment, service]);
  const pods = objects.filter(({ kind }) => kind === "Pod");
  expect(pods.map(({ metadata }) => metadata.labels?.["version"])).toEqual(["v1", "v1"]);
  const slice = objects.find(({ kind }) => kind === "EndpointSlice") as unknown as {
    ports: { port: number }[];
    endpoints: { addresses: string[] }[];
  };
  expect(slice.ports.map(({ port }) => port)).toEqual([8080]);
  expect(slice.endpoints.map(({ addresses }) => addresses[0]!)).toEqual(
    pods.map((pod) => (pod["status"] as { podIP: string }).podIP),
  );
  expect(new Set(slice.endpoints.map(({ addresses }) => addresses[0])).size).toBe(2);
  expect(objects.filter(({ kind }) => kind === "Namespace").map(({ metadata }) => metadata.name)).toEqual([
    "default",
    "video",
  ]);
});

test("makes nothing where a cluster already has it", () => {
  const pod: Manifested = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "web-1", namespace: "video", labels: { app: "web" } },
    spec: { nodeName: "worker1" },
    status: { phase: "Running", podIP: "10.244.1.7" },
  };
  const objects = completeCluster([
    pod,
    deployment,
    { ...service, spec: { ...(service["spec"] as object), clusterIP: "10.96.0.9" } },
  ]);
  const pods = objects.filter(({ kind }) => kind === "Pod");
  expect(pods.map(({ metadata }) => metadata.name)).toEqual(["web-1"]);
  const kept = objects.find(({ kind }) => kind === "Service")?.["spec"] as { clusterIP: string };
  expect(kept.clusterIP).toBe("10.96.0.9");
});
