// The request core through its in-process transport: objects, conflicts, deletion, subresources, admission.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { allKinds } from "../api/kinds/all.ts";
import type { KubeObject, Status } from "../api/object.ts";
import type { ApiRequest } from "../api/rest.ts";
import { VirtualClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { createMemoryStore } from "../store/memory.ts";
import type { Store } from "../store/types.ts";
import { type Api, createApi } from "./api.ts";

let store: Store;
let clock: VirtualClock;
let api: Api;

const open = () => createApi({ store, kinds: allKinds, clock, random: seededRandom(7), log: silentLog });
beforeEach(async () => {
  store = createMemoryStore();
  clock = new VirtualClock();
  api = await open();
});
afterEach(async () => {
  api.close();
  await store.close();
});

const pods = "/api/v1/namespaces/default/pods";
const services = "/api/v1/namespaces/default/services";
const deployments = "/apis/apps/v1/namespaces/default/deployments";

async function ask(method: ApiRequest["method"], path: string, body?: unknown, more: Partial<ApiRequest> = {}) {
  const { status, body: answer } = await api.transport.request({ method, path, body, ...more });
  return { status, body: answer as KubeObject & Status & { items: KubeObject[]; metadata: Record<string, unknown> } };
}
const merge = { contentType: "application/merge-patch+json" };
const pod = (name: string, more: Record<string, unknown> = {}, metadata: Record<string, unknown> = {}) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, ...metadata },
  spec: { containers: [{ name: "main", image: "app" }], ...more },
});
const configMap = (name: string, data: Record<string, string>, metadata: Record<string, unknown> = {}) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, ...metadata },
  data,
});
const service = (name: string, spec: Record<string, unknown> = {}) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name },
  spec: { selector: { app: name }, ports: [{ port: 80 }], ...spec },
});
const deployment = (name: string, replicas = 1) => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name },
  spec: {
    replicas,
    selector: { matchLabels: { app: name } },
    template: { metadata: { labels: { app: name } }, spec: { containers: [{ name: "main", image: "app" }] } },
  },
});
const specOf = (object: KubeObject) => object["spec"] as Record<string, never>;

describe("create and read", () => {
  test("a created object has uid, times, generation and defaults, and is what get answers", async () => {
    const created = await ask("POST", deployments, deployment("web", 2));
    expect(created.status).toBe(201);
    expect(created.body.metadata).toMatchObject({
      name: "web",
      namespace: "default",
      generation: 1,
      creationTimestamp: "2026-01-01T00:00:00Z",
    });
    expect(created.body.metadata.uid).toMatch(/^[0-9a-f-]{36}$/);
    expect(specOf(created.body)["revisionHistoryLimit"] as unknown).toBe(10);
    expect((await ask("GET", `${deployments}/web`)).body).toEqual(created.body);
  });

  test("the sender cannot set what is the server's, nor the status", async () => {
    const { body } = await ask("POST", deployments, {
      ...deployment("web"),
      metadata: { name: "web", uid: "mine", generation: 9, deletionTimestamp: "2020-01-01T00:00:00Z" },
      status: { readyReplicas: 5 },
    });
    expect(body.metadata.uid).not.toBe("mine");
    expect(body.metadata.generation).toBe(1);
    expect(body.metadata.deletionTimestamp).toBeUndefined();
    expect((body["status"] as unknown as { readyReplicas?: number })?.readyReplicas).toBeUndefined();
  });

  test("generateName makes distinct names", async () => {
    const draft = { ...pod(""), metadata: { generateName: "web-" } };
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask("POST", pods, draft)));
    const names = answers.map((answer) => answer.body.metadata.name);
    expect(new Set(names).size).toBe(20);
    for (const name of names) expect(name).toMatch(/^web-[a-z0-9]{5}$/);
  });

  test.each([
    ["a taken name", pods, pod("web"), 409, "AlreadyExists", 'pods "web" already exists'],
    [
      "a namespace that is not there",
      "/api/v1/namespaces/no/pods",
      pod("a"),
      404,
      "NotFound",
      'namespaces "no" not found',
    ],
    [
      "another namespace in the body",
      pods,
      pod("a", {}, { namespace: "kube-system" }),
      400,
      "BadRequest",
      "does not match the namespace",
    ],
    [
      "another kind in the body",
      pods,
      configMap("a", {}),
      400,
      "BadRequest",
      "does not match the expected API version",
    ],
    ["no body", pods, undefined, 400, "BadRequest", "must be an object"],
    [
      "labels that are a list",
      pods,
      pod("a", {}, { labels: ["x"] }),
      400,
      "BadRequest",
      "metadata.labels must be a map",
    ],
    [
      "a resourceVersion",
      pods,
      pod("a", {}, { resourceVersion: "1" }),
      400,
      "BadRequest",
      "resourceVersion should not be set",
    ],
    ["no name", pods, { ...pod("a"), metadata: {} }, 422, "Invalid", "name or generateName is required"],
    [
      "an unknown resource",
      "/api/v1/namespaces/default/gadgets",
      {},
      404,
      "NotFound",
      "could not find the requested resource",
    ],
    [
      "a service account that is not there",
      pods,
      pod("a", { serviceAccountName: "robot" }),
      403,
      "Forbidden",
      'serviceaccount "robot" not found',
    ],
  ])("refuses %s", async (_, path, body, status, reason, message) => {
    await ask("POST", pods, pod("web"));
    const answer = await ask("POST", path, body);
    expect(answer.body).toMatchObject({ kind: "Status", status: "Failure", code: status, reason });
    expect(answer.status).toBe(status);
    expect(answer.body.message).toContain(message);
  });

  test("an invalid object is refused with a cause for each wrong field", async () => {
    const { status, body } = await ask("POST", pods, pod("a", { containers: [{ name: "UPPER", image: "x" }] }));
    expect(status).toBe(422);
    expect(body.details!.causes![0]).toMatchObject({ field: "spec.containers[0].name", reason: "FieldValueInvalid" });
    expect(body.message).toStartWith('Pod "a" is invalid: spec.containers[0].name: Invalid value: "UPPER"');
  });

  test("dryRun=All answers as if and stores nothing", async () => {
    const { status, body } = await ask("POST", services, service("a"), { query: { dryRun: "All" } });
    expect(status).toBe(201);
    expect(specOf(body)["clusterIP"] as unknown).toMatch(/^10\./);
    expect((await ask("GET", `${services}/a`)).status).toBe(404);
    expect((await ask("POST", services, service("a"), { query: { dryRun: "Some" } })).status).toBe(400);
  });

  test("what the caller passed in is not changed, and what it got is not shared", async () => {
    const draft = pod("a");
    const before = structuredClone(draft);
    await ask("POST", pods, draft);
    expect(draft).toEqual(before);
  });
});

describe("update and patch", () => {
  const maps = "/api/v1/namespaces/default/configmaps";

  test("an update with the current resourceVersion wins, one with a stale one gets 409", async () => {
    const { body } = await ask("POST", maps, configMap("a", { n: "1" }));
    const first = await ask("PUT", `${maps}/a`, { ...body, data: { n: "2" } });
    expect(first.status).toBe(200);
    const second = await ask("PUT", `${maps}/a`, { ...body, data: { n: "3" } });
    expect(second.body).toMatchObject({ code: 409, reason: "Conflict" });
    expect(second.body.message).toContain("the object has been modified");
    const unconditional = await ask("PUT", `${maps}/a`, configMap("a", { n: "4" }));
    expect(unconditional.status).toBe(200);
    expect((await ask("PUT", `${maps}/a`, configMap("a", {}, { uid: "other" }))).status).toBe(409);
  });

  test("an update that changes nothing writes nothing", async () => {
    const { body } = await ask("POST", maps, configMap("a", { n: "1" }));
    const again = await ask("PUT", `${maps}/a`, configMap("a", { n: "1" }));
    expect(again.body.metadata.resourceVersion).toBe(body.metadata.resourceVersion);
  });

  test("an update does not create, and cannot rename", async () => {
    expect((await ask("PUT", `${maps}/a`, configMap("a", {}))).status).toBe(404);
    await ask("POST", maps, configMap("a", {}));
    expect((await ask("PUT", `${maps}/a`, configMap("b", {}))).status).toBe(422);
  });

  test("parallel patches without a resourceVersion all arrive", async () => {
    await ask("POST", maps, configMap("a", {}));
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, i) => ask("PATCH", `${maps}/a`, { data: { [`k${i}`]: "v" } }, merge)),
    );
    expect(answers.map((answer) => answer.status)).toEqual(Array(200).fill(200));
    const { body } = await ask("GET", `${maps}/a`);
    expect(Object.keys(body["data"] as unknown as object).length).toBe(200);
  });

  test("a patch that names a stale resourceVersion gets 409", async () => {
    const { body } = await ask("POST", maps, configMap("a", {}));
    await ask("PATCH", `${maps}/a`, { data: { n: "1" } }, merge);
    const { resourceVersion } = body.metadata;
    const stale = await ask("PATCH", `${maps}/a`, { metadata: { resourceVersion }, data: { n: "2" } }, merge);
    expect(stale.status).toBe(409);
  });

  test("server-side apply and unknown patch types are refused with 415", async () => {
    await ask("POST", maps, configMap("a", {}));
    for (const contentType of ["application/apply-patch+yaml", "application/json"])
      expect((await ask("PATCH", `${maps}/a`, {}, { contentType })).body).toMatchObject({
        code: 415,
        reason: "UnsupportedMediaType",
      });
  });

  test("generation counts changes of the spec only, and the status is written by its subresource only", async () => {
    const { body } = await ask("POST", deployments, deployment("web"));
    const labelled = await ask("PATCH", `${deployments}/web`, { metadata: { labels: { a: "b" } } }, merge);
    expect(labelled.body.metadata.generation).toBe(1);
    const scaled = await ask("PATCH", `${deployments}/web`, { spec: { replicas: 3 }, status: { replicas: 9 } }, merge);
    expect(scaled.body.metadata.generation).toBe(2);
    expect((scaled.body["status"] as unknown as { replicas?: number } | undefined)?.replicas).not.toBe(9);
    const reported = await ask("PUT", `${deployments}/web/status`, {
      ...scaled.body,
      spec: specOf(body),
      metadata: { ...scaled.body.metadata, labels: {} },
      status: { replicas: 3, observedGeneration: 2 },
    });
    expect(reported.status).toBe(200);
    expect(reported.body["status"]).toMatchObject({ replicas: 3, observedGeneration: 2 });
    expect(specOf(reported.body)["replicas"] as unknown).toBe(3);
    expect(reported.body.metadata).toMatchObject({ generation: 2, labels: { a: "b" } });
  });
});

describe("delete", () => {
  const running = async (name: string) => {
    await ask("POST", pods, pod(name));
    const target = { apiVersion: "v1", kind: "Binding", metadata: { name }, target: { kind: "Node", name: "n1" } };
    expect((await ask("POST", `${pods}/${name}/binding`, target)).status).toBe(201);
  };

  test("a bound pod is marked and stays until its kubelet deletes it with grace 0", async () => {
    await running("a");
    const marked = await ask("DELETE", `${pods}/a`);
    expect(marked.body).toMatchObject({
      kind: "Pod",
      metadata: { deletionTimestamp: "2026-01-01T00:00:30Z", deletionGracePeriodSeconds: 30 },
    });
    const shorter = await ask("DELETE", `${pods}/a`, { gracePeriodSeconds: 5 });
    expect(shorter.body.metadata).toMatchObject({
      deletionTimestamp: "2026-01-01T00:00:05Z",
      deletionGracePeriodSeconds: 5,
    });
    expect((await ask("DELETE", `${pods}/a`)).body.metadata.deletionGracePeriodSeconds).toBe(5);
    const gone = await ask("DELETE", `${pods}/a`, { gracePeriodSeconds: 0 });
    expect(gone.body).toMatchObject({ kind: "Status", status: "Success" });
    expect((await ask("GET", `${pods}/a`)).status).toBe(404);
  });

  test("a pod without a node goes at once", async () => {
    await ask("POST", pods, pod("a"));
    expect((await ask("DELETE", `${pods}/a`)).body).toMatchObject({ kind: "Status", status: "Success" });
    expect((await ask("DELETE", `${pods}/a`)).status).toBe(404);
  });

  test("an object with finalizers goes when the last is removed, and takes no new ones", async () => {
    await ask("POST", pods, pod("a", {}, { finalizers: ["example.com/hold"] }));
    const marked = await ask("DELETE", `${pods}/a`);
    expect(marked.body.metadata.deletionTimestamp).toBe("2026-01-01T00:00:00Z");
    const added = await ask("PATCH", `${pods}/a`, { metadata: { finalizers: ["example.com/hold", "b.c/d"] } }, merge);
    expect(added.status).toBe(422);
    expect((await ask("GET", `${pods}/a`)).status).toBe(200);
    await ask("PATCH", `${pods}/a`, { metadata: { finalizers: null } }, merge);
    expect((await ask("GET", `${pods}/a`)).status).toBe(404);
  });

  test.each([
    ["Foreground", ["foregroundDeletion"]],
    ["Orphan", ["orphan"]],
  ])("%s propagation is left to the garbage collector as a finalizer", async (propagationPolicy, finalizers) => {
    await ask("POST", deployments, deployment("web"));
    const { body } = await ask("DELETE", `${deployments}/web`, { propagationPolicy });
    expect(body.metadata.finalizers).toEqual(finalizers);
    expect((await ask("DELETE", `${deployments}/web`, { propagationPolicy: "Background" })).body.kind).toBe("Status");
  });

  test("preconditions are held against uid and resourceVersion", async () => {
    const { body } = await ask("POST", deployments, deployment("web"));
    const wrong = await ask("DELETE", `${deployments}/web`, { preconditions: { uid: "other" } });
    expect(wrong.body).toMatchObject({ code: 409, reason: "Conflict" });
    expect((await ask("DELETE", `${deployments}/web`, { preconditions: { resourceVersion: "1" } })).status).toBe(409);
    expect((await ask("DELETE", `${deployments}/web`, { preconditions: { uid: body.metadata.uid } })).status).toBe(200);
    expect((await ask("DELETE", `${deployments}/web`, { propagationPolicy: "Sideways" })).status).toBe(400);
  });

  test("deletecollection deletes what is selected", async () => {
    for (const name of ["a", "b", "c"]) await ask("POST", pods, pod(name, {}, { labels: { tier: name } }));
    const { body } = await ask("DELETE", pods, undefined, { query: { labelSelector: "tier in (a,b)" } });
    expect(body.items.map((item) => item.metadata.name)).toEqual(["a", "b"]);
    expect((await ask("GET", pods)).body.items.map((item) => item.metadata.name)).toEqual(["c"]);
  });

  test("a namespace terminates until finalized, and takes nothing new meanwhile", async () => {
    await ask("POST", "/api/v1/namespaces", { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } });
    const { body } = await ask("DELETE", "/api/v1/namespaces/shop");
    expect(body).toMatchObject({ spec: { finalizers: ["kubernetes"] }, status: { phase: "Terminating" } });
    const refused = await ask("POST", "/api/v1/namespaces/shop/pods", pod("a"));
    expect(refused.body).toMatchObject({ code: 403, details: { causes: [{ reason: "NamespaceTerminating" }] } });
    expect((await ask("PUT", "/api/v1/namespaces/shop", { ...body, spec: {} })).body["spec"]).toEqual(body["spec"]);
    await ask("PUT", "/api/v1/namespaces/shop/finalize", { ...body, spec: { finalizers: [] } });
    expect((await ask("GET", "/api/v1/namespaces/shop")).status).toBe(404);
    expect((await ask("DELETE", "/api/v1/namespaces/default")).body).toMatchObject({ code: 403, reason: "Forbidden" });
  });
});

describe("subresources and verbs", () => {
  test("a pod is bound once", async () => {
    await ask("POST", pods, pod("a"));
    const to = (name: string) => ({ apiVersion: "v1", kind: "Binding", metadata: { name: "a" }, target: { name } });
    const answers = await Promise.all(["n1", "n2"].map((name) => ask("POST", `${pods}/a/binding`, to(name))));
    expect(answers.map((answer) => answer.status).sort()).toEqual([201, 409]);
    const { body } = await ask("GET", `${pods}/a`);
    expect(["n1", "n2"]).toContain(specOf(body)["nodeName"] as unknown as string);
    expect((body["status"] as unknown as { conditions: object[] }).conditions).toMatchObject([
      { type: "PodScheduled", status: "True" },
    ]);
  });

  test("an eviction deletes with the options inside", async () => {
    await ask("POST", pods, pod("a"));
    const eviction = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name: "a" } };
    expect((await ask("POST", `${pods}/a/eviction`, eviction)).status).toBe(201);
    expect((await ask("GET", `${pods}/a`)).status).toBe(404);
  });

  test("scale reads and writes replicas", async () => {
    await ask("POST", deployments, deployment("web", 2));
    const { body } = await ask("GET", `${deployments}/web/scale`);
    expect(body).toMatchObject({ kind: "Scale", spec: { replicas: 2 }, status: { selector: "app=web" } });
    const patched = await ask("PATCH", `${deployments}/web/scale`, { spec: { replicas: 5 } }, merge);
    expect(patched.body["spec"]).toEqual({ replicas: 5 });
    expect((await ask("PUT", `${deployments}/web/scale`, { ...body, spec: { replicas: 7 } })).status).toBe(409);
    expect((await ask("PATCH", `${deployments}/web/scale`, { spec: { replicas: -1 } }, merge)).status).toBe(422);
    const { body: scaled } = await ask("GET", `${deployments}/web`);
    expect(specOf(scaled)["replicas"] as unknown).toBe(5);
    expect(scaled.metadata.generation).toBe(2);
  });

  test.each([
    ["POST", `${pods}/a`, 405],
    ["PUT", pods, 405],
    ["PATCH", pods, 405],
    ["POST", "/api/v1/pods", 405],
    ["DELETE", `${pods}/a/log`, 405],
    ["GET", `${pods}/a/nonsense`, 404],
    ["GET", "/api/v1/namespaces/default/nodes", 404],
    ["GET", "/api/v2/pods", 404],
    ["GET", "/nonsense", 404],
  ] as const)("%s %s is answered with %i", async (method, path, code) => {
    await ask("POST", pods, pod("a"));
    expect((await ask(method, path, method === "GET" ? undefined : {})).body).toMatchObject({ kind: "Status", code });
  });

  test("version and health answer", async () => {
    expect((await ask("GET", "/version")).body).toMatchObject({ major: "1" });
    for (const path of ["/healthz", "/livez", "/readyz"])
      expect(await api.transport.request({ method: "GET", path })).toEqual({ status: 200, body: "ok" });
  });
});

describe("admission of pods and services", () => {
  test("a pod gets the default service account and bounded tolerations of node trouble", async () => {
    const own = { key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoExecute", tolerationSeconds: 7 };
    const { body } = await ask("POST", pods, pod("a", { tolerations: [own] }));
    const spec = body["spec"] as unknown as {
      serviceAccountName: string;
      tolerations: { tolerationSeconds: number }[];
    };
    expect(spec.serviceAccountName).toBe("default");
    expect(spec.tolerations.map((each) => each.tolerationSeconds)).toEqual([7, 300]);
  });

  test("services get distinct addresses, keep them on update, and give them back", async () => {
    const made = await Promise.all(Array.from({ length: 30 }, (_, i) => ask("POST", services, service(`s${i}`))));
    const ips = made.map((answer) => specOf(answer.body)["clusterIP"] as unknown as string);
    expect(new Set(ips).size).toBe(30);
    const asked = { clusterIP: ips[0] };
    const taken = await ask("POST", services, service("other", asked));
    expect(taken.body).toMatchObject({ code: 422, details: { causes: [{ field: "spec.clusterIPs" }] } });
    const updated = await ask("PUT", `${services}/s0`, service("s0", { ports: [{ port: 81 }] }));
    expect(specOf(updated.body)["clusterIP"] as unknown).toBe(ips[0]);
    await ask("DELETE", `${services}/s0`);
    expect((await ask("POST", services, service("other", asked))).status).toBe(201);
    expect((await ask("POST", services, service("far", { clusterIP: "192.168.0.1" }))).status).toBe(422);
  });

  test("headless services have no address", async () => {
    const { body } = await ask("POST", services, service("a", { clusterIP: "None" }));
    expect(specOf(body)["clusterIP"] as unknown).toBe("None");
  });

  test("node ports are assigned, unique, and dropped with the type", async () => {
    const { body } = await ask("POST", services, service("a", { type: "NodePort" }));
    const nodePort = (specOf(body)["ports"] as unknown as { nodePort: number }[])[0]!.nodePort;
    expect(nodePort).toBeGreaterThanOrEqual(30_000);
    expect(nodePort).toBeLessThanOrEqual(32_767);
    const same = { type: "NodePort", ports: [{ port: 80, nodePort }] };
    const taken = await ask("POST", services, service("b", same));
    expect(taken.body.details!.causes![0]!.field).toBe("spec.ports[0].nodePort");
    const plain = await ask("PATCH", `${services}/a`, { spec: { type: "ClusterIP" } }, merge);
    expect(plain.status).toBe(200);
    expect((specOf(plain.body)["ports"] as unknown as object[])[0]!).not.toHaveProperty("nodePort");
    expect((await ask("POST", services, service("b", same))).status).toBe(201);
  });

  test("a restarted server knows the addresses in use, and its own service has the first one", async () => {
    const { body } = await ask("POST", services, service("a", { type: "NodePort" }));
    const { clusterIP, ports } = body["spec"] as unknown as { clusterIP: string; ports: { nodePort: number }[] };
    api.close();
    api = await open();
    expect((await ask("POST", services, service("b", { clusterIP }))).status).toBe(422);
    const again = { type: "NodePort", ports: [{ port: 80, nodePort: ports[0]!.nodePort }] };
    expect((await ask("POST", services, service("b", again))).status).toBe(422);
    expect(specOf((await ask("GET", `${services}/kubernetes`)).body)["clusterIP"] as unknown).toBe("10.96.0.1");
  });
});
