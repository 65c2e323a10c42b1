// What is deployed for Gateways: made, changed with them, given up and removed; and the address of the load balancer.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { deployments, gatewayClasses, kubernetesGateways, serviceAccounts, services } from "../api/resources.ts";
import type { KubernetesGateway } from "../api/types.ts";
import { isNotFound } from "../client/types.ts";
import { startTestCluster, type TestCluster } from "./fixture.test.ts";

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await startTestCluster();
});
afterAll(() => cluster.stop());

const spec = (more: object = {}): KubernetesGateway["spec"] => ({
  gatewayClassName: "istio",
  listeners: [
    { name: "http", port: 80, protocol: "HTTP" },
    { name: "http-2", port: 80, protocol: "HTTP", hostname: "a.test" },
  ],
  ...more,
});
const create = (name: string, more?: object) =>
  cluster.client.create(kubernetesGateways, {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "Gateway",
    metadata: { name, namespace: "default" },
    spec: spec(more),
  });
const service = (name: string) => cluster.client.get(services, "default", name);
const exists = async (name: string): Promise<string[]> => {
  const found: string[] = [];
  for (const resource of [serviceAccounts, services, deployments])
    await cluster.client.get(resource as typeof services, "default", name).then(
      () => found.push(resource.kind),
      (error) => expect(isNotFound(error)).toBe(true),
    );
  return found;
};

test("Istio's classes are there, and come back", async () => {
  await cluster.until("the class is there", async () => (await cluster.client.list(gatewayClasses)).items.length === 2);
  await cluster.client.delete(gatewayClasses, undefined, "istio");
  await cluster.until("it is back", async () => (await cluster.client.list(gatewayClasses)).items.length === 2);
});

test("a Gateway gets pods and a load balancer on a loopback address made from its cluster IP", async () => {
  await create("shop", { infrastructure: { labels: { team: "a" }, annotations: { note: "b" } } });
  await cluster.until("it has an address", async () =>
    Boolean((await service("shop-istio").catch(() => undefined))?.status?.loadBalancer?.ingress),
  );
  const made = await service("shop-istio");
  expect(made.spec?.ports?.map(({ name, port }) => `${name} ${port}`)).toEqual(["status-port 15021", "http 80"]);
  expect(made.status?.loadBalancer?.ingress).toEqual([
    { ip: made.spec!.clusterIP!.replace(/^10\./, "127."), ipMode: "Proxy" },
  ]);
  expect(made.metadata.labels?.["team"]).toBe("a");
  const deployment = await cluster.client.get(deployments, "default", "shop-istio");
  expect(deployment.spec?.template.metadata?.annotations?.["note"]).toBe("b");
  expect(await exists("shop-istio")).toEqual(["ServiceAccount", "Service", "Deployment"]);
});

test("a new listener changes the Service alone, whose ports keep their node ports, and not what a user changed", async () => {
  const before = await service("shop-istio");
  await cluster.client.patch(deployments, "default", "shop-istio", { spec: { replicas: 2 } });
  const generation = async () => (await cluster.client.get(deployments, "default", "shop-istio")).metadata.generation;
  const scaled = await generation();
  const listeners = [...spec().listeners, { name: "tcp", port: 9000, protocol: "TCP" }];
  await cluster.client.patch(kubernetesGateways, "default", "shop", { spec: { listeners } });
  await cluster.until("the port is there", async () => (await service("shop-istio")).spec?.ports?.length === 3);
  const nodePorts = (await service("shop-istio")).spec!.ports!.map(({ nodePort }) => nodePort);
  expect(nodePorts.slice(0, 2)).toEqual(before.spec!.ports!.map(({ nodePort }) => nodePort));
  expect(await generation()).toBe(scaled);
});

test("a Gateway that names a Service's pods gives up its own; with a Gateway all that was made for it goes", async () => {
  await create("second");
  await cluster.until("both are there", async () => (await exists("second-istio")).length === 3);
  const addresses = [{ type: "Hostname", value: "shop-istio" }];
  await cluster.client.patch(kubernetesGateways, "default", "second", { spec: { addresses } });
  await cluster.until("its own are gone", async () => (await exists("second-istio")).length === 0);
  await cluster.client.delete(kubernetesGateways, "default", "shop");
  await cluster.until("all is gone", async () => (await exists("shop-istio")).length === 0, 60_000);
});
