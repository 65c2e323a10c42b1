// Environment, command and paths of a container, as Kubernetes defines them.

import { expect, test } from "bun:test";
import type { ConfigMap, Pod, Secret, Service } from "../api/types.ts";
import { type Container, type ContainerInput, containerSpec, realPath } from "./container-spec.ts";
import { expand } from "./expand.ts";
import { argvOf, resolveImage } from "./images.ts";
import { visibleServices } from "./service-env.ts";

const pod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "web-1", namespace: "video", uid: "u1", labels: { app: "web" }, annotations: { note: 'a "b"' } },
  spec: { serviceAccountName: "robot", containers: [] },
} as unknown as Pod;

const service = (name: string, namespace: string, clusterIP: string, ports: object[]): Service =>
  ({ metadata: { name, namespace }, spec: { clusterIP, ports } }) as unknown as Service;
const services = [
  service("kubernetes", "default", "10.96.0.1", [{ name: "https", port: 443, protocol: "TCP" }]),
  service("my-db", "video", "10.96.1.1", [
    { name: "sql", port: 3306 },
    { name: "dns-x", port: 53, protocol: "UDP" },
  ]),
  service("other", "elsewhere", "10.96.1.2", [{ port: 80 }]),
  service("headless", "video", "None", [{ port: 80 }]),
];

const base: Omit<ContainerInput, "container"> = {
  id: "web-0",
  image: { command: ["/bin/web"], args: ["--default"], env: { FROM_IMAGE: "$(POD_NAME)!" } },
  facts: {
    pod,
    podIp: "10.244.1.5",
    hostIp: "172.20.0.11",
    nodeName: "worker1",
    allocatable: { cpu: "4", memory: "8Gi", "ephemeral-storage": "1Gi" },
  },
  source: {
    configMap: (name) =>
      name === "conf" ? ({ data: { COLOR: "blue", "odd.key": "x" } } as unknown as ConfigMap) : undefined,
    secret: (name) => (name === "keys" ? ({ data: { TOKEN: "czNjcmV0" } } as unknown as Secret) : undefined),
  },
  services,
  volumes: new Map(),
  ports: undefined,
  mode: "namespaces",
  logPath: "/log",
};
const spec = (more: Partial<Container>) => {
  const container = { name: "web", image: "web", ...more };
  const facts = { ...base.facts, pod: { ...pod, spec: { ...pod.spec, containers: [container] } } };
  return containerSpec({ ...base, facts, container });
};
const envOf = (env: Container["env"], more: Partial<Container> = {}) => spec({ env, ...more }).env;

test("services of the own namespace and the API server are in the environment, others are not", () => {
  const env = envOf([]);
  expect(env).toMatchObject({
    KUBERNETES_SERVICE_HOST: "10.96.0.1",
    KUBERNETES_SERVICE_PORT_HTTPS: "443",
    MY_DB_SERVICE_HOST: "10.96.1.1",
    MY_DB_SERVICE_PORT: "3306",
    MY_DB_SERVICE_PORT_SQL: "3306",
    MY_DB_PORT: "tcp://10.96.1.1:3306",
    MY_DB_PORT_53_UDP: "udp://10.96.1.1:53",
    MY_DB_PORT_3306_TCP_ADDR: "10.96.1.1",
    MY_DB_PORT_3306_TCP_PROTO: "tcp",
  });
  expect(Object.keys(env).filter((key) => /^(OTHER|HEADLESS)_/.test(key))).toEqual([]);
  expect(visibleServices(services, "video", false).map((s) => s.metadata.name)).toEqual(["kubernetes"]);
});

test("variables are expanded from earlier ones, services and the environment's sources; unknown ones stay", () => {
  const env = envOf(
    [
      { name: "A", value: "1" },
      { name: "B", value: "$(A)-$(C)-$(MY_DB_SERVICE_HOST)-$(TOKEN)-$$(A)" },
      { name: "C", value: "late" },
    ],
    { envFrom: [{ secretRef: { name: "keys" } }, { prefix: "P_", configMapRef: { name: "conf" } }] },
  );
  expect(env).toMatchObject({ B: "1-$(C)-10.96.1.1-s3cret-$(A)", P_COLOR: "blue", "P_odd.key": "x" });
});

test("values come from fields, resources, config maps and secrets", () => {
  const field = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } });
  const resource = (name: string, ref: { resource: string; divisor?: string }) => ({
    name,
    valueFrom: { resourceFieldRef: ref },
  });
  const env = envOf(
    [
      field("NAME", "metadata.name"),
      field("LABEL", "metadata.labels['app']"),
      field("IP", "status.podIP"),
      field("HOST", "status.hostIP"),
      field("SA", "spec.serviceAccountName"),
      resource("CPU", { resource: "limits.cpu" }),
      resource("CPU_M", { resource: "requests.cpu", divisor: "1m" }),
      resource("MEM", { resource: "limits.memory", divisor: "1Mi" }),
      { name: "COLOR", valueFrom: { configMapKeyRef: { name: "conf", key: "COLOR" } } },
      { name: "GONE", valueFrom: { configMapKeyRef: { name: "nope", key: "x", optional: true } } },
    ],
    { resources: { requests: { cpu: "250m" }, limits: { memory: "64Mi" } } },
  );
  expect(env).toMatchObject({
    NAME: "web-1",
    LABEL: "web",
    IP: "10.244.1.5",
    HOST: "172.20.0.11",
    SA: "robot",
    CPU: "4", // no limit: what the node has
    CPU_M: "250",
    MEM: "64",
    COLOR: "blue",
    FROM_IMAGE: "web-1!",
  });
  expect("GONE" in env).toBe(false);
});

test("what is missing is named", () => {
  const from = (valueFrom: object) => () => envOf([{ name: "X", valueFrom }]);
  expect(from({ configMapKeyRef: { name: "nope", key: "x" } })).toThrow('configmap "nope" not found');
  expect(from({ secretKeyRef: { name: "keys", key: "x" } })).toThrow("couldn't find key x in Secret keys");
  expect(from({ fieldRef: { fieldPath: "spec.nothing" } })).toThrow("unsupported fieldPath: spec.nothing");
  expect(() => envOf([], { envFrom: [{ configMapRef: { name: "nope" } }] })).toThrow('configmap "nope" not found');
  expect(() => spec({ volumeMounts: [{ name: "v", mountPath: "/v" }] })).toThrow('volume "v" not found');
});

test("command and args override the image as ENTRYPOINT and CMD do", () => {
  const entry = { command: ["/entry"], args: ["cmd"] };
  expect(argvOf(entry, undefined, undefined)).toEqual(["/entry", "cmd"]);
  expect(argvOf(entry, undefined, ["x"])).toEqual(["/entry", "x"]);
  expect(argvOf(entry, ["sh"], undefined)).toEqual(["sh"]);
  expect(argvOf(entry, ["sh"], ["-c"])).toEqual(["sh", "-c"]);
  expect(spec({ args: ["$(MY_DB_SERVICE_PORT)", "$(NOPE)"] }).argv).toEqual(["/bin/web", "3306", "$(NOPE)"]);
});

test("limits and working folder are passed on", () => {
  const limited = spec({ workingDir: "/srv", resources: { limits: { memory: "1Gi", cpu: "1500m" } } });
  expect(limited).toMatchObject({ workingDir: "/srv", memoryLimitBytes: 2 ** 30, cpuLimitMillis: 1500 });
});

test("an image is found whatever its registry prefix, tag or digest; base images are the machine's userland", () => {
  const images = {
    nginx: { command: ["n"] },
    "registry:5000/team/app:v1": { command: ["v1"] },
    "php:8-apache": { command: ["p"] },
  };
  const command = (image: string) => resolveImage(images, image).command[0] ?? resolveImage(images, image).args?.[0];
  expect(command("nginx")).toBe("n");
  expect(command("nginx:1.25")).toBe("n");
  expect(command("docker.io/library/nginx:1.25@sha256:abc")).toBe("n");
  expect(command("registry:5000/team/app:v1")).toBe("v1");
  expect(command("registry:5000/team/app:v2")).toBe("v1");
  expect(command("php:7")).toBe("p");
  expect(command("busybox:1.36")).toBe("sh");
  expect(() => command("constructor")).toThrow("not in the catalogue");
  expect(() => command("mysql:5.6")).toThrow(/meshbed\.yaml[\s\S]*images:[\s\S]*mysql/);
});

const expansions: [string, string][] = [
  ["$(A)", "1"],
  ["x$(A)y$(A)", "x1y1"],
  ["$(NONE)", "$(NONE)"],
  ["$$(A)", "$(A)"],
  ["$$$(A)", "$1"],
  ["$A", "$A"],
  ["cost: 5$", "cost: 5$"],
  ["$(A", "$(A"],
  ["$()", "$()"],
  ["$(A)$", "1$"],
];
for (const [text, expected] of expansions)
  test(`${text} expands to ${expected}`, () => {
    expect(expand(text, (name) => (name === "A" ? "1" : undefined))).toBe(expected);
  });

test("in ports mode a mount path is replaced where it is one, and nowhere else", () => {
  const mounts = [
    { source: "/s/data", target: "/data", readOnly: false },
    { source: "/s/cache", target: "/data/cache", readOnly: false },
  ];
  const paths: [string, string][] = [
    ["/data", "/s/data"],
    ["/data/x.mp4", "/s/data/x.mp4"],
    ["/data/cache/1", "/s/cache/1"],
    ["--dir=/data,/data/cache", "--dir=/s/data,/s/cache"],
    ["sqlite:///data/meta.db", "sqlite:///s/data/meta.db"],
    ["/database", "/database"],
    ["/srv/data", "/srv/data"],
    ["http://host/data", "http://host/data"],
    ["http://data/x", "http://data/x"],
  ];
  for (const [text, expected] of paths) expect(realPath(text, mounts)).toBe(expected);
});
