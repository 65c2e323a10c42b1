// Volumes: what their files hold, how they change, and what is refused.

import { afterAll, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { join } from "node:path";
import type { ConfigMap, Pod, Secret } from "../api/types.ts";
import { writeAtomically } from "./atomic-writer.ts";
import type { ConfigSource } from "./env.ts";
import type { PodFacts } from "./pod-fields.ts";
import { type Volume, volumeFiles } from "./volume-files.ts";
import { mountsOf, type PreparedVolumes } from "./volumes.ts";

const folder = mkdtempSync("/tmp/meshbed-volumes-test-");
afterAll(() => rmSync(folder, { recursive: true }));

const pod = {
  metadata: { name: "web", namespace: "video", uid: "u", labels: { b: "2", a: "1" } },
  spec: { containers: [{ name: "main", resources: { limits: { cpu: "1500m" } } }] },
} as unknown as Pod;
const facts: PodFacts = {
  pod,
  podIp: "10.244.1.5",
  hostIp: "172.20.0.11",
  nodeName: "worker1",
  allocatable: { cpu: "2", memory: "1Gi", "ephemeral-storage": "1Gi" },
};
const source: ConfigSource = {
  configMap: (name) =>
    name === "conf"
      ? ({ data: { "app.ini": "x=1", "b.txt": "b" }, binaryData: { bin: "AAEC" } } as unknown as ConfigMap)
      : undefined,
  secret: (name) =>
    name === "tls"
      ? ({ data: { "tls.key": Buffer.from("secret").toString("base64") } } as unknown as Secret)
      : undefined,
};
const filesOf = (volume: Partial<Volume>): Record<string, string> =>
  Object.fromEntries(
    [...(volumeFiles({ name: "v", ...volume }, facts, source) ?? [])].map(([path, { content, mode }]) => [
      path,
      `${Buffer.from(content).toString("latin1")} ${mode.toString(8)}`,
    ]),
  );

test("a ConfigMap gives a file for each key, or for the keys asked for, with their modes", () => {
  expect(filesOf({ configMap: { name: "conf" } })).toEqual({
    "app.ini": "x=1 644",
    "b.txt": "b 644",
    bin: "\0\x01\x02 644",
  });
  const items = [{ key: "app.ini", path: "etc/app.conf", mode: 0o600 }];
  expect(filesOf({ configMap: { name: "conf", items, defaultMode: 0o400 } })).toEqual({ "etc/app.conf": "x=1 600" });
});

test("secrets, fields, resources and projections of all of them", () => {
  expect(filesOf({ secret: { secretName: "tls", defaultMode: 0o400 } })).toEqual({ "tls.key": "secret 400" });
  const field = (path: string, fieldPath: string) => ({ path, fieldRef: { fieldPath } });
  const cpu = { path: "cpu", resourceFieldRef: { containerName: "main", resource: "limits.cpu", divisor: "1m" } };
  const items = [field("labels", "metadata.labels"), field("name", "metadata.name"), cpu];
  expect(filesOf({ downwardAPI: { items } })).toEqual({ labels: 'a="1"\nb="2" 644', name: "web 644", cpu: "1500 644" });
  const sources = [
    { serviceAccountToken: { path: "token" } },
    { configMap: { name: "conf", items: [{ key: "b.txt", path: "ca.crt" }] } },
    { downwardAPI: { items: [field("namespace", "metadata.namespace")] } },
  ];
  expect(filesOf({ projected: { sources } })).toEqual({ "ca.crt": "b 644", namespace: "video 644" });
});

test("what is missing or leaves the volume is refused", () => {
  expect(() => filesOf({ configMap: { name: "nope" } })).toThrow('configmap "nope" not found');
  expect(filesOf({ configMap: { name: "nope", optional: true } })).toEqual({});
  const item = (key: string, path: string) => ({ configMap: { name: "conf", items: [{ key, path }] } });
  expect(() => filesOf(item("x", "x"))).toThrow("non-existent key x");
  for (const path of ["../x", "/x", "a/../../x", "..data", "a//b"])
    expect(() => filesOf(item("b.txt", path))).toThrow("path");
});

const files = (content: Record<string, string>) =>
  new Map(Object.entries(content).map(([path, text]) => [path, { content: Buffer.from(text), mode: 0o640 }]));

test("a change swaps all files at once, removes what is gone and leaves one version", () => {
  const target = join(folder, "atomic");
  writeAtomically(target, files({ a: "1", "d/e": "2" }), 0);
  expect(readlinkSync(join(target, "a"))).toBe("..data/a");
  const old = readlinkSync(join(target, "..data"));
  writeAtomically(target, files({ a: "3", f: "4" }), 1);
  expect(readFileSync(join(target, "a"), "utf8")).toBe("3");
  expect(readlinkSync(join(target, "..data"))).not.toBe(old);
  expect(
    readdirSync(target)
      .filter((name) => name !== readlinkSync(join(target, "..data")))
      .toSorted(),
  ).toEqual(["..data", "a", "f"]);
  expect(statSync(join(target, "a")).mode & 0o777).toBe(0o640);
});

test("subPath mounts a part of a volume, made when missing, and never anything outside it", () => {
  const path = join(folder, "sub");
  mkdirSync(path);
  symlinkSync("/etc", join(path, "out"));
  const prepared: PreparedVolumes = new Map([["v", { path, readOnly: false, files: undefined }]]);
  const mounts = (subPath: object) =>
    mountsOf({ volumeMounts: [{ name: "v", mountPath: "/v", ...subPath }] }, prepared, { POD: "p1" });
  expect(mounts({})[0]).toEqual({ source: path, target: "/v", readOnly: false });
  expect(mounts({ subPath: "a/b", readOnly: true })[0]).toEqual({
    source: join(path, "a/b"),
    target: "/v",
    readOnly: true,
  });
  expect(existsSync(join(path, "a/b"))).toBe(true);
  expect(mounts({ subPathExpr: "$(POD)" })[0]?.source).toBe(join(path, "p1"));
  expect(() => mounts({ subPath: "../x" })).toThrow("leaves its volume");
  expect(() => mounts({ subPath: "/etc" })).toThrow("leaves its volume");
  expect(() => mounts({ subPath: "out" })).toThrow("leaves its volume");
});
