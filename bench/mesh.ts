// What the control plane costs: a whole translation, one change until every workload's proxy has applied it, memory; and how that grows.

import { join } from "node:path";
import { parseArgs } from "node:util";
import { controlPlaneSettings, engineSettings } from "../src/cluster/tuning.ts";
import { measureGateway } from "./mesh/gateway.ts";
import { sidecars } from "./mesh/objects.ts";
import { measureTranslation } from "./mesh/translation.ts";
import { percentile as sortedPercentile } from "./proxy/statistics.ts";

const { values } = parseArgs({
  options: { services: { type: "string", default: "100,300,1000" }, help: { type: "boolean", short: "h" } },
});
if (values.help) {
  console.log(`Usage: bench/mesh.ts [--services 100,300,1000]

What a mesh of so many services costs the control plane, and how that grows: a whole translation, one change until 50 workloads of a
real proxy have applied it, memory. On a quiet machine it takes about two minutes.`);
  process.exit(0);
}

/** What is promised for 1,000 services. */
const limits = { fullMs: 300, endpointMs: 50, routeMs: 100, gatewayMs: 30, rssMiB: 250 };

interface Change {
  tookMs: number;
  writeMs: number;
  resources: number;
}
interface Measured {
  /** Per change: of the control plane, API server and store included, and of the proxy. */
  processorMs: [number, number];
  firstMs: number;
  proxyRssBytes: number;
  rssBytes: number;
  endpoints: Change[];
  routes: Change[];
  nacks: number;
}

const percentile = (values: readonly number[], share: number): number =>
  sortedPercentile(
    values.toSorted((a, b) => a - b),
    share,
  );
const spread = (values: readonly number[]): string =>
  `median ${percentile(values, 0.5).toFixed(1)}, p99 ${percentile(values, 0.99).toFixed(1)} ms`;
const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 20);
const verdict = (value: number, limit: number): string => (value <= limit ? `(≤ ${limit})` : `(MISSES ${limit})`);

/** In a process of its own, so that its memory is its own. */
async function measureLive(services: number): Promise<Measured> {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "mesh/control_plane.ts"), String(services)], {
    stdout: "pipe",
    stderr: "inherit",
    env: { ...engineSettings, ...controlPlaneSettings, ...process.env },
  });
  const text = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`the measured control plane failed with ${services} services`);
  return JSON.parse(text) as Measured;
}

function report(services: number, live: Measured): void {
  const { fullMs, endpointMs, routeMs } = measureTranslation(services);
  const gatewayMs = measureGateway(services);
  const gatewayMedianMs = percentile(gatewayMs.slice(1), 0.5);
  const fullMedianMs = percentile(fullMs.slice(1), 0.5);
  const took = (changes: readonly Change[]) => changes.map(({ tookMs }) => tookMs);
  const wrote = [...live.endpoints, ...live.routes].map(({ writeMs }) => writeMs);
  const endpointP99Ms = percentile(took(live.endpoints), 0.99);
  const routeP99Ms = percentile(took(live.routes), 0.99);
  const sent = Math.max(...live.endpoints.map(({ resources }) => resources));
  const rssMiB = mebibytes(live.rssBytes);
  console.log(`${services} services, ${services * 2} endpoints, ${services} routes, ${sidecars} workloads subscribed
  full translation                 ${fullMs[0]!.toFixed(0)} ms at first, then median ${fullMedianMs.toFixed(0)} ms ${verdict(fullMedianMs, limits.fullMs)}
  translation of one change        endpoint ${spread(endpointMs)}; route ${spread(routeMs)}
  gateway of ${services} hosts, one port   ${gatewayMs[0]!.toFixed(0)} ms at first; after one route change ${spread(gatewayMs.slice(1))} ${verdict(gatewayMedianMs, limits.gatewayMs)}
  endpoint change → applied        ${spread(took(live.endpoints))} ${verdict(endpointP99Ms, limits.endpointMs)}; resources sent to each: ${sent}
  route change → applied           ${spread(took(live.routes))} ${verdict(routeP99Ms, limits.routeMs)}
  of that, the write to the API    ${spread(wrote)} (on disk before it is told)
  processor time of one change     control plane ${live.processorMs[0].toFixed(1)} ms, proxy ${live.processorMs[1].toFixed(1)} ms
  first configuration of a proxy   ${live.firstMs.toFixed(0)} ms
  memory                           control plane ${rssMiB} MiB ${verdict(rssMiB, limits.rssMiB)}; proxy ${mebibytes(live.proxyRssBytes)} MiB; refused: ${live.nacks}`);
}

for (const text of values.services.split(",")) report(Number(text), await measureLive(Number(text)));
