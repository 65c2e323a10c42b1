// The cases that ask what a request costs: a table of loads and subjects.

import { join } from "node:path";
import { largeBytes } from "../backend.ts";
import { interleave, type Load, measure, megabytesPerCpuSecond, microsPerRequest, requestsPerSecond } from "../load.ts";
import { routePath } from "../rivals.ts";
import { type Bound, rowsOf } from "../statistics.ts";
import { type GatewayName, startGateways, startPairs, startVariants, writeCertificates } from "../subjects.ts";
import type { Bench, Case, Subject } from "../types.ts";

interface Throughput {
  name: string;
  what: string;
  load: Load;
  start(bench: Bench): Promise<Subject[]>;
  /** Bounds of "meshbed ÷ subject": of the CPU per small request, or of MB per CPU second for large bodies. */
  targets?: Readonly<Record<string, Bound>>;
}

const small: Load = { path: "/small", bodyBytes: 0, connections: 32, seconds: 2 };
const large: Load = { path: "/large", bodyBytes: largeBytes, connections: 32, seconds: 2 };
const upload: Load = { ...large, path: "/upload", upload: true, seconds: 1 };
const tls: Partial<Load> = { secure: true, seconds: 1 };
const manyRoutes = 1000;

const all: readonly GatewayName[] = ["meshbed", "nginx", "haproxy"];
const allAndSplice: readonly GatewayName[] = [...all, "haproxy splice-auto"];

const tlsText = "TLS 1.3 (ECDSA P-256, AES-128-GCM) from the client, plain to the backend";

const table: readonly Throughput[] = [
  {
    name: "small-get",
    what: "GET of 13 bytes through a gateway route (edge chain, metrics, request id), 32 keep-alive connections by wrk.",
    load: small,
    start: (bench) => startGateways(bench, all),
    targets: { nginx: { atMost: 1.1 }, haproxy: { atMost: 1.3 } },
  },
  {
    name: "large-get",
    what: "GET of 1 MiB through the same gateway route, 32 connections. nginx buffers answers, as is its default; HAProxy's default is no splicing.",
    load: large,
    start: (bench) => startGateways(bench, allAndSplice),
    targets: { haproxy: { atLeast: 1.5 } },
  },
  {
    name: "upload",
    what: "POST of 1 MiB through the same gateway route, 32 connections. nginx reads a request whole before it passes it on, as is its default.",
    load: upload,
    start: (bench) => startGateways(bench, allAndSplice),
  },
  {
    name: "mtls-small",
    what: "Small GET through two proxies with TLS 1.3 and client certificates (ECDSA P-256, AES-128-GCM) between them; CPU of both.",
    load: small,
    start: startPairs,
    targets: { haproxy: { atMost: 1.0 } },
  },
  {
    name: "mtls-large",
    what: "GET of 1 MiB through the same two proxies; CPU of both.",
    load: large,
    start: startPairs,
    targets: { haproxy: { atLeast: 1.5 } },
  },
  {
    name: "tls-small",
    what: `Small GET, ${tlsText}.`,
    load: { ...small, ...tls },
    start: startWithTls,
  },
  {
    name: "tls-large",
    what: `GET of 1 MiB, ${tlsText}.`,
    load: { ...large, ...tls },
    start: startWithTls,
  },
  {
    name: "tls-handshake",
    what: `Small GET with a connection and a handshake for each request, ${tlsText}.`,
    load: { ...small, ...tls, close: true },
    start: startWithTls,
  },
  {
    name: "routes-1000",
    what: "Small GET that matches the last of 1,000 prefix routes: an index by path in meshbed, locations for nginx, a map file for HAProxy.",
    load: { ...small, path: `${routePath(manyRoutes - 1)}small`, seconds: 1 },
    start: (bench) => startGateways(bench, all, { routes: manyRoutes }),
  },
  {
    name: "telemetry",
    what:
      "Small GET through meshbed alone: Istio's metrics as always; all of them dropped; with an access log of Envoy's default format to " +
      "a file; with 1 % (Istio's default) and 100 % of requests traced and sent over OTLP.",
    load: { ...small, seconds: 1 },
    start: startTelemetryVariants,
  },
];

async function startWithTls(bench: Bench): Promise<Subject[]> {
  const { server } = await writeCertificates(bench.lab);
  return startGateways(bench, all, { pem: server });
}

async function startTelemetryVariants(bench: Bench): Promise<Subject[]> {
  const variants = await startVariants(bench, {
    "without metrics": { telemetry: { metrics: false } },
    "and access log": { telemetry: { accessLog: join(bench.lab.folder, "access.log") } },
    "and 1 % traced": { telemetry: { tracedPercent: 1 } },
    "and 100 % traced": { telemetry: { tracedPercent: 100 } },
  });
  return [...(await startGateways(bench, ["meshbed"])), ...variants];
}

async function run({ load, start, targets }: Throughput, bench: Bench) {
  const subjects = await start(bench);
  const isLarge = load.bodyBytes > 0;
  const decides = isLarge ? megabytesPerCpuSecond : microsPerRequest;
  // The first requests compile code and open connections.
  for (const subject of subjects) await measure(bench, subject, load);
  const samples = await interleave(bench.rounds, subjects, (subject) => measure(bench, subject, load));
  await Promise.all(subjects.map((subject) => subject.stop()));
  const metrics = [decides, ...(isLarge ? [microsPerRequest] : []), requestsPerSecond];
  return rowsOf(
    metrics.map((name) => ({ name, ...(name === decides && targets && { ratioTargets: targets }) })),
    samples,
  );
}

export const throughputCases: readonly Case[] = table.map((entry) => ({
  name: entry.name,
  what: entry.what,
  run: (bench) => run(entry, bench),
}));
