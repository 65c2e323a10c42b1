// Namespaces over the real API server: what every namespace has, and how one is emptied.

import { afterEach, expect, test } from "bun:test";
import { configMaps, deployments, namespaces, pods, secrets, serviceAccounts } from "../api/resources.ts";
import { startTestCluster, type TestCluster, webDeployment } from "./fixture.test.ts";

let cluster: TestCluster;
afterEach(() => cluster.stop());

const create = (name: string) =>
  cluster.client.create(namespaces, { apiVersion: "v1", kind: "Namespace", metadata: { name } });

test("a new namespace gets its default service account and the cluster's CA, and gets them again when they are removed", async () => {
  cluster = await startTestCluster({ nodes: 0 });
  await create("shop");
  await cluster.settle();
  const account = await cluster.client.get(serviceAccounts, "shop", "default");
  expect(account.metadata.name).toBe("default");
  const map = await cluster.client.get(configMaps, "shop", "kube-root-ca.crt");
  expect(map.data).toEqual({ "ca.crt": "CA" });
  await cluster.client.delete(serviceAccounts, "shop", "default");
  await cluster.client.patch(configMaps, "shop", "kube-root-ca.crt", { data: { "ca.crt": "forged" } });
  await cluster.settle();
  expect((await cluster.client.get(serviceAccounts, "shop", "default")).metadata.uid).not.toBe(account.metadata.uid);
  expect((await cluster.client.get(configMaps, "shop", "kube-root-ca.crt")).data).toEqual({ "ca.crt": "CA" });
});

test("a deleted namespace goes when its last pod has ended, and takes nothing of others along", async () => {
  cluster = await startTestCluster({ nodes: 2 });
  await create("shop");
  await create("other");
  const web = webDeployment();
  await cluster.client.create(deployments, { ...web, metadata: { name: "web", namespace: "shop" } } as never);
  for (const namespace of ["shop", "other"]) {
    const draft = { apiVersion: "v1", kind: "Secret", metadata: { name: "key", namespace }, data: { a: "YQ==" } };
    await cluster.client.create(secrets, draft);
  }
  await cluster.run(2_000);
  expect((await cluster.client.list(pods, { namespace: "shop" })).items).toHaveLength(3);
  await cluster.client.delete(namespaces, undefined, "shop");
  await cluster.settle();
  const terminating = await cluster.client.get(namespaces, undefined, "shop");
  expect(terminating.status?.phase).toBe("Terminating");
  expect(terminating.status?.conditions?.[0]).toMatchObject({ type: "NamespaceContentRemaining", status: "True" });
  await cluster.until("namespace gone", async () =>
    (await cluster.client.list(namespaces)).items.every(({ metadata }) => metadata.name !== "shop"),
  );
  expect((await cluster.client.list(pods)).items).toEqual([]);
  expect((await cluster.client.list(secrets)).items.map(({ metadata }) => metadata.namespace)).toEqual(["other"]);
});
