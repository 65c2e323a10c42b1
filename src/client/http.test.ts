// The HTTPS transport against the real API server: requests, refusals, watches, and a server that goes away and comes back.

import { afterEach, beforeAll, expect, test } from "bun:test";
import { allKinds } from "../api/kinds/all.ts";
import { configMaps, namespaces } from "../api/resources.ts";
import { type ApiServer, startApiServer } from "../apiserver/server.ts";
import { type Authority, type Certificate, createAuthority } from "../identity/authority.ts";
import { realClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { systemRandom } from "../kernel/random.ts";
import { createMemoryStore } from "../store/memory.ts";
import type { Store } from "../store/types.ts";
import { createClient } from "./client.ts";
import { httpTransport } from "./http.ts";
import { createInformer } from "./informer.ts";
import { ApiError } from "./types.ts";

const lifetimeMs = 3_600_000;
const deps = { clock: realClock, random: systemRandom, log: silentLog };
let ca: Authority;
let serving: Certificate;
let admin: Certificate;
beforeAll(async () => {
  ca = await createAuthority({ commonName: "cluster", clock: realClock });
  serving = await ca.issue({ commonName: "api", ipAddresses: ["127.0.0.1"], lifetimeMs, usages: ["server"] });
  admin = await ca.issue({ commonName: "admin", organizations: ["system:masters"], lifetimeMs, usages: ["client"] });
});
const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

const start = (store: Store, port = 0): Promise<ApiServer> =>
  startApiServer({
    store,
    kinds: allKinds,
    host: "127.0.0.1",
    port,
    tls: {
      ...serving,
      clientCaPem: ca.certPem,
      kubeletClientCertPem: admin.certPem,
      kubeletClientKeyPem: admin.keyPem,
    },
    ...deps,
  });
const clientOf = (port: number, certificate: Certificate | undefined = admin) =>
  createClient(
    httpTransport({
      server: `https://127.0.0.1:${port}`,
      caPem: ca.certPem,
      ...(certificate && { certPem: certificate.certPem, keyPem: certificate.keyPem }),
    }),
  );
const map = (name: string) => ({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: "default" } });

test("requests carry the client certificate; refusals are ApiErrors with status and reason", async () => {
  const store = createMemoryStore();
  const server = await start(store);
  stops.push(() => store.close(), server.close);
  const client = clientOf(server.port);
  const created = await client.create(configMaps, { ...map("a"), data: { k: "ü" } });
  expect((await client.get(configMaps, "default", "a")).data).toEqual({ k: "ü" });
  const refused = await client.create(configMaps, map("a")).catch((error) => error);
  expect(refused).toBeInstanceOf(ApiError);
  expect(refused).toMatchObject({ status: 409, reason: "AlreadyExists", code: "API_ALREADY_EXISTS" });
  const stale = await client
    .update(configMaps, { ...created, metadata: { ...created.metadata, resourceVersion: "1" } })
    .catch((error) => error);
  expect(stale).toMatchObject({ status: 409, reason: "Conflict" });
  expect((await client.list(namespaces, { labelSelector: "kubernetes.io/metadata.name=default" })).items).toHaveLength(
    1,
  );
  expect((await client.discover()).some(({ kind, group }) => kind === "Deployment" && group === "apps")).toBe(true);
  expect(
    await client.list(configMaps, { namespace: "default", fieldSelector: "no.such=1" }).catch((error) => error.status),
  ).toBe(400);
});

test("a server that is not there, and one that does not answer in time, are API_UNREACHABLE", async () => {
  const silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  stops.push(() => silent.stop(true));
  const transport = httpTransport({
    server: `http://127.0.0.1:${silent.port}`,
    caPem: ca.certPem,
    requestTimeoutMs: 50,
  });
  const failure = await transport.request({ method: "GET", path: "/api/v1" }).catch((error) => error);
  expect(failure).toMatchObject({ code: "API_UNREACHABLE" });
  expect(failure.message).toContain("no answer in 50 ms");
  silent.stop(true);
  expect(await transport.request({ method: "GET", path: "/api/v1" }).catch((error) => error.code)).toBe(
    "API_UNREACHABLE",
  );
});

test("an informer survives restarts of the server without losing an event, and a stopped one leaves no connection", async () => {
  const store = createMemoryStore();
  stops.push(() => store.close());
  let server = await start(store);
  const { port } = server;
  const client = clientOf(port);
  const informer = createInformer({ client, ...deps }, configMaps, { namespace: "default" });
  await informer.synced;
  const seen: string[] = [];
  informer.onChange((current, old) =>
    seen.push(`${old ? (current ? "~" : "-") : "+"}${(current ?? old)!.metadata.name}`),
  );
  for (let round = 0; round < 3; round++) {
    await client.create(configMaps, map(`before${round}`));
    await server.close();
    // While no watcher can be connected, the state goes on changing.
    server = await start(store, port);
    await server.transport.request({
      method: "POST",
      path: "/api/v1/namespaces/default/configmaps",
      body: map(`during${round}`),
    });
    await server.transport.request({ method: "DELETE", path: `/api/v1/namespaces/default/configmaps/before${round}` });
  }
  const wanted = [0, 1, 2].flatMap((round) => [`+before${round}`, `+during${round}`, `-before${round}`]);
  for (let i = 0; i < 600 && seen.length < wanted.length; i++) await Bun.sleep(5);
  expect(seen).toEqual(wanted);
  informer.stop();
  await server.close(); // would wait for a watch that is still open
});

test("an event split over several network chunks arrives whole", async () => {
  const text = JSON.stringify({ type: "ADDED", object: { metadata: { name: "grüße", resourceVersion: "3" } } });
  const bytes = Buffer.from(`${text}\n${text}\n`);
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: () =>
      new Response(
        new ReadableStream({
          async start(controller) {
            for (let i = 0; i < bytes.length; i += 7) {
              controller.enqueue(bytes.subarray(i, i + 7));
              await Bun.sleep(0);
            }
            controller.close();
          },
        }),
      ),
  });
  stops.push(() => server.stop(true));
  const transport = httpTransport({ server: `http://127.0.0.1:${server.port}`, caPem: ca.certPem });
  const names: string[] = [];
  for await (const event of transport.watch({ method: "GET", path: "/x" }, new AbortController().signal))
    names.push(event.object.metadata.name);
  expect(names).toEqual(["grüße", "grüße"]);
});
