// The Gateway API's other listeners and routes by real traffic: HTTPS, TLS passed through, TCP, gRPC, TLS to backends, and a Gateway on pods that are there already.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { type EchoBed, startEcho } from "./echo.ts";
import { greet } from "./grpc/greeter.ts";
import { balancerPort, type Output, root, run, until } from "./testbed.ts";

const folder = mkdtempSync(join(tmpdir(), "meshbed-gateway-api-"));
const effectMs = 5_000;
let bed: EchoBed;
let address = "";

const object = (kind: string, name: string, spec: object, namespace = "echo", version = "v1") => ({
  apiVersion: `gateway.networking.k8s.io/${version}`,
  kind,
  metadata: { name, namespace },
  spec,
});
const apply = (...items: object[]) => bed.apply(JSON.stringify({ apiVersion: "v1", kind: "List", items }));
const read = async (kind: string, name: string) =>
  JSON.parse(await bed.kubectl("get", kind, name, "-n", "echo", "-o", "json"));

async function certificate(name: string, host: string): Promise<void> {
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const files = ["-keyout", `${name}.key`, "-out", `${name}.crt`, "-subj", `/CN=${host}`, "-days", "1"];
  const made = await run(["openssl", "req", "-x509", ...key, ...files, "-addext", `subjectAltName=DNS:${host}`], {
    cwd: folder,
  });
  if (made.code !== 0) throw new Error(made.stderr);
}
const secret = (name: string, of: string, namespace: string) => ({
  apiVersion: "v1",
  kind: "Secret",
  type: "kubernetes.io/tls",
  metadata: { name, namespace },
  stringData: {
    "tls.crt": readFileSync(join(folder, `${of}.crt`), "utf8"),
    "tls.key": readFileSync(join(folder, `${of}.key`), "utf8"),
  },
});
const service = (name: string, selector: object, port: object) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "echo" },
  spec: { selector, ports: [port] },
});
const deployment = (name: string, container: object, more: object = {}) => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name, namespace: "echo" },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: name } },
    template: { metadata: { labels: { app: name } }, spec: { containers: [{ name: "main", ...container }], ...more } },
  },
});

beforeAll(async () => {
  const image = { command: [process.execPath, join(root, "conformance/grpc/server.ts")] };
  writeFileSync(join(folder, "meshbed.yaml"), JSON.stringify({ images: { "test/greeter": image } }));
  const starting = startEcho({ cwd: folder });
  await Promise.all([certificate("edge", "edge.test"), certificate("inner", "inner.test")]);
  bed = await starting;
  const all = { namespaces: { from: "Same" } };
  const inner = { name: "certificate", mountPath: "/certificate" };
  await apply(
    secret("edge", "edge", "elsewhere"),
    secret("inner", "inner", "echo"),
    service("v1", { app: "server", version: "v1" }, { name: "http", port: 80, targetPort: 8080 }),
    service("inner", { app: "inner" }, { name: "tls", port: 443, targetPort: 8443 }),
    service("greeter", { app: "greeter" }, { name: "grpc", port: 7000, targetPort: 50051 }),
    deployment(
      "inner",
      {
        image: "meshbed/echo",
        env: Object.entries({
          VERSION: "inner",
          TLS_PORT: "8443",
          TLS_CERT: "/certificate/tls.crt",
          TLS_KEY: "/certificate/tls.key",
        }).map(([name, value]) => ({ name, value })),
        ports: [{ containerPort: 8443 }],
        volumeMounts: [inner],
      },
      { volumes: [{ name: "certificate", secret: { secretName: "inner" } }] },
    ),
    deployment("greeter", {
      image: "test/greeter",
      env: [
        { name: "PORT", value: "50051" },
        { name: "VERSION", value: "v1" },
      ],
      ports: [{ containerPort: 50051 }],
    }),
    object("Gateway", "edge", {
      gatewayClassName: "istio",
      listeners: [
        { name: "http", port: 80, protocol: "HTTP" },
        {
          name: "https",
          port: 443,
          protocol: "HTTPS",
          hostname: "edge.test",
          tls: { certificateRefs: [{ name: "edge", namespace: "elsewhere" }] },
        },
        {
          name: "passed",
          port: 443,
          protocol: "TLS",
          hostname: "inner.test",
          tls: { mode: "Passthrough" },
          allowedRoutes: all,
        },
        { name: "tcp", port: 9000, protocol: "TCP" },
      ],
    }),
    object("HTTPRoute", "edge", {
      parentRefs: [{ name: "edge", sectionName: "https" }],
      rules: [{ backendRefs: [{ name: "v1", port: 80 }] }],
    }),
    object("HTTPRoute", "to-https", {
      parentRefs: [{ name: "edge", sectionName: "http" }],
      hostnames: ["edge.test"],
      rules: [{ filters: [{ type: "RequestRedirect", requestRedirect: { scheme: "https", statusCode: 301 } }] }],
    }),
    object("TLSRoute", "inner", {
      parentRefs: [{ name: "edge" }],
      hostnames: ["inner.test"],
      rules: [{ backendRefs: [{ name: "inner", port: 443 }] }],
    }),
    object(
      "TCPRoute",
      "echo",
      {
        parentRefs: [{ name: "edge", sectionName: "tcp" }],
        rules: [{ backendRefs: [{ name: "server", port: 9000 }] }],
      },
      "echo",
      "v1alpha2",
    ),
    object("GRPCRoute", "greeter", {
      parentRefs: [{ name: "edge", sectionName: "http" }],
      hostnames: ["greeter.test"],
      rules: [
        {
          matches: [{ method: { service: greet.path.split("/")[1] } }],
          backendRefs: [{ name: "greeter", port: 7000 }],
        },
      ],
    }),
  );
  for (const name of ["inner", "greeter"])
    await bed.kubectl("rollout", "status", `deployment/${name}`, "-n", "echo", "--timeout=20s");
  await bed.kubectl("wait", "--for=condition=Programmed", "gtw/edge", "-n", "echo", "--timeout=20s");
  address = (await read("gtw", "edge")).status.addresses[0].value;
}, 90_000);
afterAll(async () => {
  await bed?.down();
  rmSync(folder, { recursive: true, force: true });
});

const portOf = (port: number): number => balancerPort(bed, address, port);

function curl(host: string, certificateOf: string): Promise<Output> {
  const to = ["--connect-to", `${host}:443:${address}:${portOf(443)}`];
  return run(["curl", "-sS", "-m", "5", "--cacert", join(folder, `${certificateOf}.crt`), ...to, `https://${host}/`]);
}
const versionOf = ({ code, stdout }: Output): string => (code === 0 ? JSON.parse(stdout).version : "refused");

test("HTTPS: another namespace's certificate serves once a ReferenceGrant lets it; its own redirect leads there", async () => {
  const listener = async () =>
    (await read("gtw", "edge")).status.listeners.find(({ name }: { name: string }) => name === "https");
  const resolved = async () =>
    (await listener()).conditions.find(({ type }: { type: string }) => type === "ResolvedRefs").reason as string;
  expect(await resolved()).toBe("RefNotPermitted");
  expect(versionOf(await curl("edge.test", "edge"))).toBe("refused");
  const from = [{ group: "gateway.networking.k8s.io", kind: "Gateway", namespace: "echo" }];
  await apply(
    object("ReferenceGrant", "edge", { from, to: [{ group: "", kind: "Secret", name: "edge" }] }, "elsewhere"),
  );
  await until("the certificate serves", effectMs, async () => versionOf(await curl("edge.test", "edge")) === "v1");
  expect(await resolved()).toBe("ResolvedRefs");
  const redirect = await fetch(`http://${address}:${portOf(80)}/a`, {
    headers: { host: "edge.test" },
    redirect: "manual",
  });
  expect([redirect.status, redirect.headers.get("location")]).toEqual([301, "https://edge.test/a"]);
}, 20_000);

test("TLS is passed through on the same port, by server name, and ends at the application", async () => {
  await until("it is passed", effectMs, async () => versionOf(await curl("inner.test", "inner")) === "inner");
  expect(versionOf(await curl("unknown.test", "inner"))).toBe("refused");
}, 20_000);

test("a BackendTLSPolicy has the gateway speak TLS to the backend, and only to the right one", async () => {
  const ca = (name: string, of: string) => ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name, namespace: "echo" },
    data: { "ca.crt": readFileSync(join(folder, `${of}.crt`), "utf8") },
  });
  const policy = (hostname: string, bundle: string) =>
    object("BackendTLSPolicy", "inner", {
      targetRefs: [{ group: "", kind: "Service", name: "inner", sectionName: "tls" }],
      validation: { hostname, caCertificateRefs: [{ group: "", kind: "ConfigMap", name: bundle }] },
    });
  const ask = async (): Promise<[number, string]> => {
    const answer = await fetch(`http://${address}:${portOf(80)}/`, { headers: { host: "backend.test" } });
    return [answer.status, await answer.text()];
  };
  const conditions = async (): Promise<string[]> =>
    ((await read("backendtlspolicies", "inner")).status?.ancestors ?? []).flatMap(
      (one: { ancestorRef: { name: string }; conditions: { type: string; status: string; reason: string }[] }) =>
        one.conditions.map(({ type, status, reason }) => `${one.ancestorRef.name} ${type}=${status}/${reason}`),
    );
  const becomes = (status: number) => until(`it answers ${status}`, effectMs, async () => (await ask())[0] === status);
  await apply(
    ca("right", "inner"),
    ca("wrong", "edge"),
    policy("inner.test", "right"),
    object("HTTPRoute", "backend", {
      parentRefs: [{ name: "edge", sectionName: "http" }],
      hostnames: ["backend.test"],
      rules: [{ backendRefs: [{ name: "inner", port: 443 }] }],
    }),
  );
  await becomes(200);
  expect(JSON.parse((await ask())[1]).version).toBe("inner");
  await until("it is accepted", effectMs, async () => (await conditions()).includes("edge Accepted=True/Accepted"));
  await apply(policy("other.test", "right"));
  await becomes(503);
  await apply(policy("inner.test", "right"));
  await becomes(200);
  await apply(policy("inner.test", "wrong"));
  await becomes(503);
  // What a ConfigMap holds counts when it changes.
  await apply(ca("wrong", "inner"));
  await becomes(200);
  await apply(policy("inner.test", "missing"));
  await becomes(503);
  await until("the status says why", effectMs, async () => (await conditions())[0]?.includes("NoValidCACertificate"));
  expect(await conditions()).toEqual([
    "edge Accepted=False/NoValidCACertificate",
    "edge ResolvedRefs=False/InvalidCACertificateRef",
  ]);
}, 40_000);

test("TCP goes where its route says", async () => {
  const answer = await until("the server speaks", effectMs, async () => {
    const { stdout } = await run([
      "timeout",
      "2",
      "bash",
      "-c",
      `exec 3<>/dev/tcp/${address}/${portOf(9000)}; echo hello >&3; head -1 <&3`,
    ]);
    return stdout !== "" && stdout;
  });
  expect(answer).toContain("hello");
}, 20_000);

test("gRPC calls find their service; others are not implemented", async () => {
  const client = new grpc.Client(`${address}:${portOf(80)}`, grpc.credentials.createInsecure(), {
    "grpc.default_authority": "greeter.test",
  });
  const call = (path: string): Promise<string> =>
    new Promise((resolve) => {
      const done = (error: grpc.ServiceError | null, answer?: string): void =>
        resolve(error ? `error ${error.code}` : String(answer));
      client.makeUnaryRequest(
        path,
        greet.requestSerialize,
        greet.responseDeserialize,
        "who",
        { deadline: Date.now() + 5_000 },
        done,
      );
    });
  await until("it answers", effectMs, async () => (await call(greet.path)) === "v1");
  // 404 of the gateway, as gRPC maps it.
  expect(await call("/other.Service/Call")).toBe("error 12");
  client.close();
}, 20_000);

test("a Gateway whose address names a Service is served by that Service's pods", async () => {
  await apply(
    object("Gateway", "manual", {
      gatewayClassName: "istio",
      addresses: [{ type: "Hostname", value: "istio-ingressgateway.istio-system.svc.cluster.local" }],
      listeners: [{ name: "http", port: 80, protocol: "HTTP", hostname: "manual.test" }],
    }),
    object("HTTPRoute", "manual", {
      parentRefs: [{ name: "manual" }],
      rules: [{ backendRefs: [{ name: "v1", port: 80 }] }],
    }),
  );
  await until("it serves", effectMs, async () => (await bed.get("manual.test", "/")).status === 200);
  await bed.kubectl("wait", "--for=condition=Programmed", "gtw/manual", "-n", "echo", "--timeout=10s");
  expect(await bed.kubectl("get", "deployment", "-n", "echo", "-o", "name")).not.toContain("manual-istio");
}, 20_000);
