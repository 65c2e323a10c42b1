// The three patch types, with the bodies that kubectl really sends.

import { describe, expect, test } from "bun:test";
import { allKinds } from "../api/kinds/all.ts";
import type { KubeObject } from "../api/object.ts";
import { ApiFailure } from "./failure.ts";
import { applyPatch } from "./patch.ts";

const kindOf = (name: string) => allKinds.find((kind) => kind.kind === name)!;
const strategic = "application/strategic-merge-patch+json";
const merge = "application/merge-patch+json";
const json = "application/json-patch+json";

const objectOf = (kind: string, rest: object): KubeObject =>
  structuredClone({
    apiVersion: "v1",
    kind,
    metadata: {
      name: "web",
      namespace: "shop",
      uid: "u",
      resourceVersion: "1",
      creationTimestamp: "2026-01-01T00:00:00Z",
    },
    ...rest,
  });

const podSpec = {
  containers: [
    {
      name: "web",
      image: "nginx:1.25",
      env: [
        { name: "A", value: "1" },
        { name: "B", value: "2" },
      ],
      ports: [{ containerPort: 80, protocol: "TCP" }],
      volumeMounts: [{ name: "data", mountPath: "/data" }],
      args: ["a", "b"],
    },
    { name: "side", image: "busybox" },
  ],
  volumes: [{ name: "data", emptyDir: {} }],
  tolerations: [{ key: "a", operator: "Exists" }],
};
const deployment = () =>
  objectOf("Deployment", {
    spec: {
      replicas: 2,
      strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: "25%", maxUnavailable: "25%" } },
      template: { metadata: { labels: { app: "web" } }, spec: podSpec },
    },
  });

type Template = { template: { spec: typeof podSpec & Record<string, unknown> } & Record<string, unknown> } & Record<
  string,
  unknown
>;

/** The spec of a Deployment after a strategic merge. */
function patched(patch: object): Template {
  return applyPatch(kindOf("Deployment"), deployment(), strategic, patch)["spec"] as Template;
}
const inPod = (spec: object) => ({ spec: { template: { spec } } });

describe("strategic merge", () => {
  test("kubectl set image changes one container and keeps the order", () => {
    const { containers } = patched(
      inPod({
        "$setElementOrder/containers": [{ name: "web" }, { name: "side" }],
        containers: [{ name: "side", image: "busybox:2" }],
      }),
    ).template.spec;
    expect(containers.map(({ name, image }) => [name, image])).toEqual([
      ["web", "nginx:1.25"],
      ["side", "busybox:2"],
    ]);
    expect(containers[0]).toEqual(podSpec.containers[0]!);
  });

  test("a new container goes where the order says", () => {
    const { containers } = patched(
      inPod({
        "$setElementOrder/containers": [{ name: "first" }, { name: "web" }, { name: "side" }],
        containers: [{ name: "first", image: "x" }],
      }),
    ).template.spec;
    expect(containers.map(({ name }) => name)).toEqual(["first", "web", "side"]);
  });

  test("what the patch does not name keeps its place beside what it was beside", () => {
    const { containers } = patched(
      inPod({
        "$setElementOrder/containers": [{ name: "new" }, { name: "side" }],
        containers: [{ name: "new", image: "x" }],
      }),
    ).template.spec;
    expect(containers.map(({ name }) => name)).toEqual(["new", "web", "side"]);
  });

  test("env is merged by name, removed by directive, ports by containerPort, mounts by path", () => {
    const [web] = patched(
      inPod({
        containers: [
          {
            name: "web",
            env: [
              { name: "A", $patch: "delete" },
              { name: "B", value: "3" },
              { name: "C", value: "4" },
            ],
            ports: [{ containerPort: 80, name: "http" }, { containerPort: 81 }],
            volumeMounts: [
              { mountPath: "/data", readOnly: true },
              { mountPath: "/x", name: "data" },
            ],
          },
        ],
      }),
    ).template.spec.containers;
    expect(web as object).toMatchObject({
      env: [
        { name: "B", value: "3" },
        { name: "C", value: "4" },
      ],
      ports: [{ containerPort: 80, protocol: "TCP", name: "http" }, { containerPort: 81 }],
      volumeMounts: [
        { name: "data", mountPath: "/data", readOnly: true },
        { mountPath: "/x", name: "data" },
      ],
    });
  });

  test("lists without a merge key are replaced", () => {
    const { containers, tolerations } = patched(
      inPod({ tolerations: [{ key: "b" }], containers: [{ name: "web", args: ["c"] }] }),
    ).template.spec;
    expect(tolerations as object).toEqual([{ key: "b" }]);
    expect(containers[0]?.args).toEqual(["c"]);
  });

  test("null removes a field, also one that is not there", () => {
    const spec = patched({ spec: { replicas: null, paused: null, template: { spec: { volumes: null } } } });
    expect(spec).not.toHaveProperty("replicas");
    expect(spec).not.toHaveProperty("paused");
    expect(spec.template.spec).not.toHaveProperty("volumes");
  });

  test("$retainKeys leaves only the keys it names", () => {
    expect(patched({ spec: { strategy: { $retainKeys: ["type"], type: "Recreate" } } })["strategy"]).toEqual({
      type: "Recreate",
    });
    const { volumes } = patched(
      inPod({ volumes: [{ $retainKeys: ["name", "configMap"], name: "data", configMap: { name: "c" } }] }),
    ).template.spec;
    expect(volumes as object).toEqual([{ name: "data", configMap: { name: "c" } }]);
  });

  test("$patch: replace takes the place of a map or a list", () => {
    expect(patched({ spec: { strategy: { $patch: "replace", type: "Recreate" } } })["strategy"]).toEqual({
      type: "Recreate",
    });
    const { containers } = patched(inPod({ containers: [{ name: "only", image: "x" }, { $patch: "replace" }] }))
      .template.spec;
    expect(containers as object).toEqual([{ name: "only", image: "x" }]);
  });

  test("$patch: delete empties a map and takes an item out of a list", () => {
    expect(patched({ spec: { strategy: { $patch: "delete" } } })["strategy"]).toEqual({});
    const { containers } = patched(inPod({ containers: [{ name: "side", $patch: "delete" }] })).template.spec;
    expect(containers.map(({ name }) => name)).toEqual(["web"]);
  });

  test("finalizers are a set, taken out by $deleteFromPrimitiveList", () => {
    const pod = objectOf("Pod", {});
    pod.metadata.finalizers = ["a/x", "b/y"];
    const kind = kindOf("Pod");
    const added = applyPatch(kind, structuredClone(pod), strategic, { metadata: { finalizers: ["b/y", "c/z"] } });
    expect(added.metadata.finalizers).toEqual(["a/x", "b/y", "c/z"]);
    const removed = applyPatch(kind, structuredClone(pod), strategic, {
      metadata: { "$deleteFromPrimitiveList/finalizers": ["a/x"], "$setElementOrder/finalizers": ["b/y"] },
    });
    expect(removed.metadata.finalizers).toEqual(["b/y"]);
  });

  test("conditions are merged by type, owners by uid", () => {
    const node = objectOf("Node", {
      status: {
        conditions: [
          { type: "Ready", status: "True", reason: "Up" },
          { type: "Disk", status: "True" },
        ],
      },
    });
    const { status } = applyPatch(kindOf("Node"), node, strategic, {
      status: {
        "$setElementOrder/conditions": [{ type: "Ready" }, { type: "Disk" }],
        conditions: [{ type: "Ready", status: "Unknown" }],
      },
    });
    expect(status).toEqual({
      conditions: [
        { type: "Ready", status: "Unknown", reason: "Up" },
        { type: "Disk", status: "True" },
      ],
    });
    const pod = objectOf("Pod", {});
    pod.metadata.ownerReferences = [{ apiVersion: "v1", kind: "X", name: "x", uid: "1" }];
    const { metadata } = applyPatch(kindOf("Pod"), pod, strategic, {
      metadata: {
        ownerReferences: [
          { uid: "1", $patch: "delete" },
          { apiVersion: "v1", kind: "Y", name: "y", uid: "2" },
        ],
      },
    });
    expect(metadata.ownerReferences?.map(({ uid }) => uid)).toEqual(["2"]);
  });

  test("labels are merged as a plain map, and new structure carries no directives or nulls", () => {
    const patch = { metadata: { labels: { a: "b", gone: null }, annotations: { x: null, y: "z" } } };
    const { metadata } = applyPatch(kindOf("Deployment"), deployment(), strategic, patch);
    expect(metadata).toMatchObject({ labels: { a: "b" }, annotations: { y: "z" } });
    expect(Object.keys(metadata.labels!)).toEqual(["a"]);
    expect(Object.keys(metadata.annotations!)).toEqual(["y"]);
  });

  test("the patch itself stays as it is, so that it can be applied again", () => {
    const patch = inPod({
      "$setElementOrder/containers": [{ name: "web" }, { name: "side" }],
      containers: [{ name: "web", image: "x" }],
    });
    const before = JSON.stringify(patch);
    patched(patch);
    expect(JSON.stringify(patch)).toBe(before);
  });

  test.each<[string, object]>([
    ["an item without its merge key", inPod({ containers: [{ image: "x" }] })],
    ["an unknown directive", inPod({ $patch: "shred" })],
    [
      "an item missing from the order",
      inPod({ "$setElementOrder/containers": [{ name: "web" }], containers: [{ name: "new", image: "x" }] }),
    ],
    ["a field missing from $retainKeys", { spec: { strategy: { $retainKeys: ["type"], rollingUpdate: {} } } }],
  ])("%s is refused", (_name, patch) => {
    expect(() => patched(patch)).toThrow(ApiFailure);
  });

  test("Istio's kinds have no strategic merge: 415", () => {
    expect(statusOf(() => applyPatch(kindOf("VirtualService"), objectOf("VirtualService", {}), strategic, {}))).toBe(
      415,
    );
  });
});

function statusOf(action: () => unknown): number {
  try {
    action();
  } catch (error) {
    if (error instanceof ApiFailure) return error.status.code;
    throw error;
  }
  return 200;
}

test("merge patch replaces lists, removes by null and creates what is missing (RFC 7386)", () => {
  const result = applyPatch(
    kindOf("VirtualService"),
    objectOf("VirtualService", { spec: { hosts: ["a"], http: [1], exportTo: ["."] } }),
    merge,
    {
      spec: { hosts: ["b", "c"], exportTo: null, deep: { x: { y: null, z: 1 } } },
    },
  );
  expect(result["spec"]).toEqual({ hosts: ["b", "c"], http: [1], deep: { x: { z: 1 } } });
});

test("JSON patch adds, replaces, removes, moves, copies and tests", () => {
  const result = applyPatch(kindOf("Deployment"), deployment(), json, [
    { op: "test", path: "/spec/replicas", value: 2 },
    { op: "replace", path: "/spec/replicas", value: 5 },
    { op: "add", path: "/metadata/labels", value: { "a/b": "c" } },
    { op: "add", path: "/metadata/labels/x~1y", value: "z" },
    { op: "remove", path: "/spec/template/spec/tolerations/0" },
    { op: "add", path: "/spec/template/spec/containers/-", value: { name: "last", image: "x" } },
    { op: "copy", from: "/spec/replicas", path: "/spec/minReadySeconds" },
    { op: "move", from: "/spec/minReadySeconds", path: "/spec/revisionHistoryLimit" },
  ]);
  expect(result.metadata.labels).toEqual({ "a/b": "c", "x/y": "z" });
  const spec = result["spec"] as Template;
  expect(spec).toMatchObject({ replicas: 5, revisionHistoryLimit: 5 });
  expect(spec).not.toHaveProperty("minReadySeconds");
  expect(spec.template.spec.tolerations).toEqual([]);
  expect(spec.template.spec.containers.map(({ name }) => name)).toEqual(["web", "side", "last"]);
});

test.each<[string, string, unknown, number]>([
  ["a failed test", json, [{ op: "test", path: "/spec/replicas", value: 9 }], 422],
  ["a path that is not there", json, [{ op: "remove", path: "/spec/nothing" }], 422],
  ["a parent that is not there", json, [{ op: "add", path: "/spec/a/b", value: 1 }], 422],
  ["an operation that does not exist", json, [{ op: "shred", path: "/spec" }], 422],
  ["a JSON patch that is no list", json, {}, 400],
  ["an operation without a path", json, [{ op: "add" }], 400],
  ["too many operations", json, Array(10_001).fill({ op: "remove", path: "/x" }), 413],
  ["a merge patch that is no object", merge, [], 400],
  ["a prototype", merge, JSON.parse('{"__proto__":{"polluted":true}}'), 400],
  ["an unknown content type", "text/plain", {}, 415],
  ["a patch nested without end", merge, JSON.parse(`${'{"a":'.repeat(200)}1${"}".repeat(200)}`), 400],
])("%s is refused", (_name, contentType, patch, status) => {
  expect(statusOf(() => applyPatch(kindOf("Deployment"), deployment(), contentType, patch))).toBe(status);
});
