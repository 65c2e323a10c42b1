// The API over HTTPS: certificates, both HTTP versions, bodies, tables, watches, pod logs from a kubelet.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect, createSecureServer, type Http2SecureServer } from "node:http2";
import type { TLSSocket } from "node:tls";
import { allKinds } from "../api/kinds/all.ts";
import type { KubeObject } from "../api/object.ts";
import { type Authority, type Certificate, createAuthority } from "../identity/authority.ts";
import { realClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { systemRandom } from "../kernel/random.ts";
import { createMemoryStore } from "../store/memory.ts";
import type { Store } from "../store/types.ts";
import { type ApiServer, startApiServer } from "./server.ts";

const lifetimeMs = 3_600_000;
let ca: Authority;
let admin: Certificate;
let foreign: Certificate;
let store: Store;
let server: ApiServer;
let kubelet: Http2SecureServer;
let kubeletPort: number;
let kubeletUser = "";

beforeAll(async () => {
  ca = await createAuthority({ commonName: "cluster", clock: realClock });
  const other = await createAuthority({ commonName: "elsewhere", clock: realClock });
  const person = { commonName: "admin", organizations: ["system:masters"], lifetimeMs, usages: ["client" as const] };
  const machine = { commonName: "api", ipAddresses: ["127.0.0.1"], lifetimeMs, usages: ["server" as const] };
  const serving = await ca.issue(machine);
  const toKubelets = await ca.issue({ commonName: "api-to-kubelet", lifetimeMs, usages: ["client"] });
  [admin, foreign] = await Promise.all([ca.issue(person), other.issue(person)]);
  store = createMemoryStore();
  server = await startApiServer({
    store,
    kinds: allKinds,
    host: "127.0.0.1",
    port: 0,
    tls: {
      ...serving,
      clientCaPem: ca.certPem,
      kubeletClientCertPem: toKubelets.certPem,
      kubeletClientKeyPem: toKubelets.keyPem,
    },
    clock: realClock,
    random: systemRandom,
    log: silentLog,
  });
  await startKubelet(serving);
});
afterAll(async () => {
  await server.close();
  await store.close();
  kubelet.close();
});

/** Answers containerLogs as a kubelet does; follows with a line every few milliseconds. */
async function startKubelet(serving: Certificate) {
  const options = { cert: serving.certPem, key: serving.keyPem, ca: ca.certPem, requestCert: true, allowHTTP1: true };
  kubelet = createSecureServer(options, (request, response) => {
    kubeletUser = (request.socket as TLSSocket).getPeerCertificate().subject?.CN as string;
    const url = new URL(request.url!, "https://kubelet");
    if (url.pathname === "/containerLogs/default/two/b") {
      response.write("half a line");
      realClock.after(20, () => request.socket.destroy());
      return;
    }
    if (url.pathname !== "/containerLogs/default/web/main") {
      response.writeHead(404);
      response.end("no such container");
      return;
    }
    if (url.searchParams.get("follow") !== "true") {
      response.end(`tail ${url.searchParams.get("tailLines")}\n`);
      return;
    }
    let n = 0;
    const cancel = realClock.every(5, () => response.write(`line ${n++}\n`));
    response.on("close", cancel);
  });
  await new Promise<void>((resolve) => kubelet.listen(0, "127.0.0.1", resolve));
  kubeletPort = (kubelet.address() as { port: number }).port;
}

const urlOf = (path: string) => `https://127.0.0.1:${server.port}${path}`;

async function ask(path: string, init: BunFetchRequestInit = {}, who: Certificate | null = admin) {
  const tls = { ca: ca.certPem, ...(who && { cert: who.certPem, key: who.keyPem }) };
  // A connection of its own each time: the pool of fetch does not keep identities apart.
  const response = await fetch(urlOf(path), { ...init, tls, keepalive: false });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, json: () => JSON.parse(text) as KubeObject };
}
const post = (path: string, body: string, contentType = "application/json") =>
  ask(path, { method: "POST", body, headers: { "content-type": contentType } });
const maps = "/api/v1/namespaces/default/configmaps";

describe("who may ask", () => {
  test("a certificate of the cluster opens everything", async () => {
    expect((await ask("/api/v1/namespaces/default")).json().metadata.name).toBe("default");
  });
  test("without a certificate only signs of life are shown", async () => {
    for (const path of ["/healthz", "/livez", "/readyz", "/version"])
      expect((await ask(path, {}, null)).status).toBe(200);
    for (const path of ["/api/v1/secrets", "/metrics", "/apis", "/openapi/v3"])
      expect((await ask(path, {}, null)).json()).toMatchObject({ code: 403, reason: "Forbidden" });
  });
  test("a foreign certificate is refused", async () => {
    expect((await ask("/api/v1/secrets", {}, foreign)).json()).toMatchObject({ code: 401, reason: "Unauthorized" });
  });
  test("HTTP/2 sees the same certificates", async () => {
    const over2 = (who: Certificate | undefined) =>
      new Promise<number>((resolve, reject) => {
        const session = connect(urlOf(""), { ca: ca.certPem, ...(who && { cert: who.certPem, key: who.keyPem }) });
        session.on("error", reject);
        const stream = session.request({ ":path": "/api/v1/namespaces" });
        stream.on("response", (headers) => {
          resolve(headers[":status"]!);
          session.close();
        });
        stream.end();
      });
    expect(await Promise.all([over2(admin), over2(undefined), over2(foreign)])).toEqual([200, 403, 401]);
  });
});

describe("bodies and answers", () => {
  test("YAML is understood and spoken", async () => {
    const created = await post(
      maps,
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata: {a: b}\n",
      "application/yaml",
    );
    expect(created.status).toBe(201);
    const { text, headers } = await ask(`${maps}/y`, { headers: { accept: "application/yaml" } });
    expect(headers.get("content-type")).toBe("application/yaml");
    expect(text).toContain("data:\n  a: b\n");
  });
  test.each([
    ["{", "application/json", 400],
    ["a: [", "application/yaml", 400],
    ["x", "text/plain", 415],
    ["x".repeat(4 * 1024 * 1024), "application/json", 413],
  ])("a bad body is refused: %#", async (body, contentType, code) => {
    expect((await post(maps, body, contentType)).json()).toMatchObject({ kind: "Status", code });
  });
  test("unknown fields warn by default, refuse in Strict mode, pass in Ignore mode", async () => {
    const body = (name: string) => JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name }, dta: {} });
    const warned = await post(maps, body("u1"));
    expect(warned.status).toBe(201);
    expect(warned.headers.get("warning")).toBe('299 - "unknown field \\"dta\\""');
    const refused = await post(`${maps}?fieldValidation=Strict`, body("u2"));
    expect(refused.json()).toMatchObject({ code: 400, message: 'strict decoding error: unknown field "dta"' });
    const ignored = await post(`${maps}?fieldValidation=Ignore`, body("u3"));
    expect(ignored.headers.get("warning")).toBeNull();
  });
  test("tables and bare metadata are shown to who accepts them", async () => {
    const as = async (accept: string, path: string) => (await ask(path, { headers: { accept } })).json();
    const table = await as("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "/api/v1/namespaces");
    expect(table).toMatchObject({ kind: "Table", apiVersion: "meta.k8s.io/v1" });
    expect((table["rows"] as unknown as { cells: unknown[] }[])[0]!.cells.slice(0, 2)).toEqual(["default", "Active"]);
    expect(table.metadata.resourceVersion).toMatch(/^\d+$/);
    const partial = await as("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "/api/v1/namespaces");
    expect(partial.kind).toBe("PartialObjectMetadataList");
    expect((partial["items"] as unknown as KubeObject[])[0]).not.toHaveProperty("spec");
    expect(await as("image/png", "/api/v1/namespaces")).toMatchObject({ code: 406 });
  });
  test("discovery lists what is served and OpenAPI can be cached", async () => {
    expect((await ask("/apis/apps/v1")).json()).toMatchObject({ kind: "APIResourceList", groupVersion: "apps/v1" });
    const first = await ask("/openapi/v3");
    const etag = first.headers.get("etag")!;
    expect((await ask("/openapi/v3", { headers: { "if-none-match": etag } })).status).toBe(304);
  });
  test("the server's own service leads to it", async () => {
    const slice = (await ask("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")).json();
    expect(slice).toMatchObject({ endpoints: [{ addresses: ["127.0.0.1"] }], ports: [{ port: server.port }] });
  });
  test("requests are counted", async () => {
    const { text } = await ask("/metrics");
    expect(text).toMatch(/apiserver_request_total\{verb="POST",resource="configmaps",code="201"\} [1-9]/);
  });
});

describe("streams", () => {
  test("a watch is lines of JSON and ends when the client goes", async () => {
    const abort = new AbortController();
    const response = await fetch(urlOf(`${maps}?watch=true&fieldSelector=metadata.name=w`), {
      tls: { ca: ca.certPem, cert: admin.certPem, key: admin.keyPem },
      signal: abort.signal,
    });
    const lines = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    await post(maps, JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "w" } }));
    const { value } = await lines.read();
    expect(JSON.parse(value!)).toMatchObject({ type: "ADDED", object: { kind: "ConfigMap", metadata: { name: "w" } } });
    abort.abort();
  });

  test("a table watch sends its columns once", async () => {
    const { text } = await ask(`${maps}?watch=true&timeoutSeconds=1`, {
      headers: { accept: "application/json;as=Table;v=v1;g=meta.k8s.io" },
    });
    const tables = text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).object);
    expect(tables.length).toBeGreaterThan(1);
    expect(tables.map((table) => table.columnDefinitions.length > 0)).toEqual(tables.map((_, i) => i === 0));
  });

  test("pod logs come from the kubelet of the pod's node", async () => {
    const create = (path: string, body: object) => server.transport.request({ method: "POST", path, body });
    const node = {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: "n1" },
      status: {
        addresses: [{ type: "InternalIP", address: "127.0.0.1" }],
        daemonEndpoints: { kubeletEndpoint: { Port: kubeletPort } },
      },
    };
    expect((await create("/api/v1/nodes", node)).status).toBe(201);
    for (const [name, containers] of [
      ["web", ["main"]],
      ["two", ["a", "b"]],
    ] as const)
      await create("/api/v1/namespaces/default/pods", {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name },
        spec: { nodeName: "n1", containers: containers.map((each) => ({ name: each, image: "x" })) },
      });
    const logs = "/api/v1/namespaces/default/pods/web/log";
    const { text, headers } = await ask(`${logs}?tailLines=7`);
    expect(text).toBe("tail 7\n");
    expect(headers.get("content-type")).toBe("text/plain");
    expect(kubeletUser).toBe("api-to-kubelet");
    expect((await ask(`${logs}?container=no`)).json()).toMatchObject({ code: 400 });
    expect((await ask("/api/v1/namespaces/default/pods/two/log")).json()).toMatchObject({
      code: 400,
      message: "a container name must be specified for pod two, choose one of: [a b]",
    });
    expect((await ask("/api/v1/namespaces/default/pods/two/log?container=a")).json()).toMatchObject({
      code: 404,
      message: "no such container",
    });
    await expect(ask("/api/v1/namespaces/default/pods/two/log?container=b")).rejects.toThrow();
    const broken = { status: { ...node.status, daemonEndpoints: { kubeletEndpoint: { Port: 1 } } } };
    const contentType = "application/merge-patch+json";
    await server.transport.request({ method: "PATCH", path: "/api/v1/nodes/n1/status", body: broken, contentType });
    expect((await ask(logs)).json()).toMatchObject({ code: 503, reason: "ServiceUnavailable" });
    await server.transport.request({ method: "PATCH", path: "/api/v1/nodes/n1/status", body: node, contentType });
    const abort = new AbortController();
    const response = await fetch(urlOf(`${logs}?follow=true`), {
      tls: { ca: ca.certPem, cert: admin.certPem, key: admin.keyPem },
      signal: abort.signal,
    });
    let seen = "";
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      seen += chunk;
      if (seen.includes("line 3")) break;
    }
    abort.abort();
    expect(seen).toStartWith("line 0\nline 1\n");
  });
});
