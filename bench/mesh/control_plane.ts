// The control plane of a mesh of N services in a process of its own, with a proxy in another: from the write to the API until it is applied.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { allKinds } from "../../src/api/kinds/all.ts";
import type { ObjectMeta } from "../../src/api/object.ts";
import * as resources from "../../src/api/resources.ts";
import type { Pod } from "../../src/api/types.ts";
import { createApi } from "../../src/apiserver/api.ts";
import { createClient } from "../../src/client/client.ts";
import type { Client } from "../../src/client/types.ts";
import { controlPlaneSettings } from "../../src/cluster/tuning.ts";
import { createAuthority } from "../../src/identity/authority.ts";
import { realClock } from "../../src/kernel/clock.ts";
import { stderrLog } from "../../src/kernel/log.ts";
import { systemRandom } from "../../src/kernel/random.ts";
import { startMesh } from "../../src/mesh/mesh.ts";
import type { MeshObjects } from "../../src/mesh/types.ts";
import { openSqliteStore } from "../../src/store/sqlite.ts";
import { endpointSlice, namespace, nodeName, objectsOf, sidecars, virtualService } from "./objects.ts";

const services = Number(process.argv[2] ?? 1_000);
/** Of each type; enough that the 99th percentile is not the worst of all. */
const changes = 200;
/** A change follows when the one before it has been applied for this long. */
const pauseMs = 20;
const waitMaxMs = 60_000;
const hourMs = 3_600_000;
const clock = realClock;
const log = stderrLog("warn");

interface Said {
  type: string;
  resources: number;
  atMs: number;
  tookMs: number;
  rssBytes: number;
}

async function fill(client: Client, objects: MeshObjects): Promise<void> {
  /** The API server gives the rest. */
  const bare = <T extends { metadata: ObjectMeta }>(object: T): T => {
    const { name, labels } = object.metadata;
    return { ...object, metadata: { name, ...(labels && { labels }), namespace } };
  };
  for (const { apiVersion, kind, metadata } of objects.namespaces)
    await client.create(resources.namespaces, {
      apiVersion,
      kind,
      metadata: { name: namespace, ...(metadata.labels && { labels: metadata.labels }) },
    });
  for (const item of objects.services) await client.create(resources.services, bare(item));
  for (const item of objects.pods) {
    const { status, ...pod } = bare(item) as Pod;
    const created = await client.create(resources.pods, pod as Pod);
    await client.update(resources.pods, { ...created, status } as Pod, "status");
  }
  for (const item of objects.endpointSlices) await client.create(resources.endpointSlices, bare(item));
  for (const item of objects.destinationRules) await client.create(resources.destinationRules, bare(item));
  for (const item of objects.virtualServices) await client.create(resources.virtualServices, bare(item));
}

const folder = mkdtempSync(join(tmpdir(), "meshbed-bench-"));
const store = openSqliteStore(join(folder, "state.db"));
const api = await createApi({ store, kinds: allKinds, clock, random: systemRandom, log });
const client = createClient(api.transport);
await fill(client, objectsOf(services));
const authority = await createAuthority({ commonName: "mesh", clock });
const issue = async (common: object) => {
  const { certPem: cert, keyPem: key } = await authority.issue({
    ...common,
    lifetimeMs: hourMs,
    usages: ["server", "client"],
  });
  return { ca: authority.certPem, cert, key };
};
const mesh = await startMesh({
  client,
  authority,
  adsHost: "127.0.0.1",
  adsPort: 0,
  adsTls: await issue({ ipAddresses: ["127.0.0.1"] }),
  clock,
  log,
  mode: "namespaces",
});
await mesh.ready;
const tlsFile = join(folder, "tls.json");
const identity = { commonName: `system:node:${nodeName}`, organizations: ["system:nodes"] };
writeFileSync(tlsFile, JSON.stringify(await issue(identity)));

const proxy = Bun.spawn([process.execPath, join(import.meta.dir, "proxy.ts"), `127.0.0.1:${mesh.adsPort}`, tlsFile], {
  stdin: "pipe",
  stdout: "pipe",
  stderr: "inherit",
  env: { ...process.env, ...Object.fromEntries(Object.keys(controlPlaneSettings).map((name) => [name, undefined])) },
});
const waiting: { type: string; take(said: Said): void }[] = [];
createInterface({ input: Readable.fromWeb(proxy.stdout as never) }).on("line", (line) => {
  const said = JSON.parse(line) as Said;
  const index = waiting.findIndex(({ type }) => type === said.type);
  if (index >= 0) waiting.splice(index, 1)[0]!.take(said);
});
const next = (type: string): Promise<Said> =>
  new Promise((resolve, reject) => {
    const cancel = clock.after(waitMaxMs, () => reject(new Error(`no ${type} was applied within ${waitMaxMs} ms`)));
    waiting.push({
      type,
      take(said) {
        cancel();
        resolve(said);
      },
    });
  });

interface Change {
  /** From the write until every workload has it, and how much of that the write to the API took. */
  tookMs: number;
  writeMs: number;
  /** That each was sent. */
  resources: number;
}

async function change(type: string, write: () => Promise<unknown>): Promise<Change> {
  const applied = next(type);
  const startMs = performance.timeOrigin + performance.now();
  await write();
  const writeMs = performance.timeOrigin + performance.now() - startMs;
  const { atMs, resources: count } = await applied;
  await clock.sleep(pauseMs);
  return { tookMs: atMs - startMs, writeMs, resources: count / sidecars };
}

/** Processor time of a process until now, all threads; the clock ticks a hundred times a second (proc(5), stat). */
const processorMs = (pid: number): number => {
  const text = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
};

const ready = await next("ready");
await clock.sleep(1_000);
const usedBeforeMs = [process.pid, proxy.pid].map(processorMs);
const endpoints: Change[] = [];
const routes: Change[] = [];
for (let round = 0; round < changes; round++) {
  const index = (round * 7) % services;
  const slice = await client.get(resources.endpointSlices, namespace, `s${index}`);
  const altered = { ...slice, endpoints: endpointSlice(index, round >= services).endpoints } as typeof slice;
  endpoints.push(await change("ClusterLoadAssignment", () => client.update(resources.endpointSlices, altered)));
  const rule = await client.get(resources.virtualServices, namespace, `s${index}`);
  const { spec } = virtualService(index, 6 + (round % 90)) as { spec: typeof rule.spec };
  routes.push(await change("RouteConfiguration", () => client.update(resources.virtualServices, { ...rule, spec })));
}
const usedMs = [process.pid, proxy.pid].map((pid, index) => processorMs(pid) - usedBeforeMs[index]!);
console.log(
  JSON.stringify({
    processorMs: usedMs.map((ms) => ms / (2 * changes)),
    firstMs: ready.tookMs,
    proxyRssBytes: ready.rssBytes,
    rssBytes: process.memoryUsage.rss(),
    endpoints,
    routes,
    nacks: mesh.statistics().nacks,
  }),
);
proxy.stdin.end();
await proxy.exited;
rmSync(folder, { recursive: true, force: true });
process.exit(0);
