// What the data plane costs: CPU per small request and throughput of large bodies on one core, beside nginx and HAProxy in the same run.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { realClock } from "../src/kernel/clock.ts";
import {
  cluster,
  freePort,
  httpChain,
  listener,
  prefix,
  routes,
  startFixture,
  toCluster,
} from "../src/proxy/fixture.ts";

const rounds = 5;
const smallSeconds = 2;
const largeSeconds = 1;
const connections = 32;
const proxyCore = "0";
const loadCore = "1";
const largeBytes = 1024 * 1024;
/** USER_HZ: what /proc/<pid>/stat counts in. */
const ticksPerSecond = 100;

/** Serves a small and a large body; the same process feeds all proxies. */
function serveBackend(port: number): void {
  const small = new Response("hello, world\n");
  const large = Buffer.alloc(largeBytes, 120);
  Bun.serve({
    hostname: "127.0.0.1",
    port,
    fetch: (request) => (request.url.endsWith("/large") ? new Response(large) : small.clone()),
  });
}

async function serveProxy(port: number, backendPort: number): Promise<void> {
  await startFixture({
    listeners: [
      listener("127.0.0.1", port, [httpChain("main", {})], { workload: "client;bench;client;v1;Kubernetes" }),
    ],
    clusters: [cluster("app", [`127.0.0.1:${backendPort}`])],
    routes: [routes("main", [{ match: prefix("/"), action: toCluster("app") }])],
  });
}

const nginxConfiguration = (folder: string, port: number, backendPort: number): string => `
daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log ${folder}/error.log crit;
events { worker_connections 1024; }
http {
  access_log off; client_body_temp_path ${folder}/b; proxy_temp_path ${folder}/p;
  fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
  keepalive_requests 100000000; proxy_max_temp_file_size 0;
  upstream app { server 127.0.0.1:${backendPort}; keepalive 64; keepalive_requests 100000000; }
  server { listen 127.0.0.1:${port}; location / {
    proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Request-Id $request_id; proxy_set_header X-Forwarded-Proto $scheme;
  } }
}`;

const haproxyConfiguration = (port: number, backendPort: number): string => `
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  http-reuse always
frontend in
  bind 127.0.0.1:${port}
  unique-id-format %[uuid()]
  unique-id-header x-request-id
  http-request set-header x-forwarded-proto http
  default_backend app
backend app
  server one 127.0.0.1:${backendPort}
`;

/** User and system time of a process and its children that still live, in microseconds. */
function cpuMicros(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return (ticks / ticksPerSecond) * 1e6;
}

/** A process and what it forked (nginx's worker). */
function withChildren(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim();
  return [pid, ...(children === "" ? [] : children.split(" ").map(Number))];
}

interface Subject {
  name: string;
  port: number;
  pids: number[];
}

interface Sample {
  microsPerRequest: number;
  megabytesPerSecond: number;
}

function wrk(port: number, path: string, seconds: number): number {
  const command = ["taskset", "-c", loadCore, "wrk", "-t1", `-c${connections}`, `-d${seconds}s`];
  const { stdout } = Bun.spawnSync([...command, `http://127.0.0.1:${port}${path}`]);
  const text = stdout.toString();
  const requests = Number(/(\d+) requests in/.exec(text)?.[1]);
  if (!(requests > 0) || /Non-2xx/.test(text)) throw new Error(`the load on ${path} failed:\n${text}`);
  return requests;
}

function measure({ port, pids }: Subject): Sample {
  const before = cpuMicros(pids);
  const requests = wrk(port, "/small", smallSeconds);
  const microsPerRequest = (cpuMicros(pids) - before) / requests;
  const beforeLarge = cpuMicros(pids);
  const bytes = wrk(port, "/large", largeSeconds) * largeBytes;
  // Bytes per second of the proxy's CPU: the load generator's core may be the bottleneck.
  return { microsPerRequest, megabytesPerSecond: bytes / (cpuMicros(pids) - beforeLarge) };
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!;

function report(samples: Map<string, Sample[]>): void {
  const rows = [...samples].map(([name, list]) => ({
    name,
    micros: median(list.map(({ microsPerRequest }) => microsPerRequest)),
    rate: median(list.map(({ megabytesPerSecond }) => megabytesPerSecond)),
  }));
  const own = rows[0]!;
  console.log(`one core, ${connections} connections, median of ${rounds} interleaved rounds`);
  console.log("proxy     CPU µs per small GET   ratio   MB per CPU second, 1 MiB GET   ratio");
  for (const { name, micros, rate } of rows)
    console.log(
      [
        name.padEnd(9),
        micros.toFixed(1).padStart(21),
        (micros / own.micros).toFixed(2).padStart(7),
        rate.toFixed(0).padStart(30),
        (rate / own.rate).toFixed(2).padStart(7),
      ].join(" "),
    );
}

async function answers(port: number): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if ((await fetch(`http://127.0.0.1:${port}/small`).catch(() => undefined))?.ok) return;
    await realClock.sleep(25);
  }
  throw new Error(`nothing answers on port ${port}`);
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "meshbed-bench-"));
  const started: Subprocess[] = [];
  const start = (core: string, ...command: string[]): number => {
    const child = Bun.spawn(["taskset", "-c", core, ...command], { stdout: "ignore", stderr: "inherit" });
    started.push(child);
    return child.pid;
  };
  try {
    const backendPort = freePort();
    const own = [process.execPath, ...process.execArgv, import.meta.path];
    start(loadCore, ...own, "backend", String(backendPort));
    const subjects: Subject[] = [];
    const add = async (name: string, command: (port: number) => string[]): Promise<void> => {
      if (name !== "meshbed" && !Bun.which(name)) return;
      const port = freePort();
      const pid = start(proxyCore, ...command(port));
      await answers(port);
      subjects.push({ name, port, pids: withChildren(pid) });
    };
    await add("meshbed", (port) => [...own, "proxy", String(port), String(backendPort)]);
    await add("nginx", (port) => {
      writeFileSync(join(folder, "nginx.conf"), nginxConfiguration(folder, port, backendPort));
      return ["nginx", "-c", join(folder, "nginx.conf")];
    });
    await add("haproxy", (port) => {
      writeFileSync(join(folder, "haproxy.cfg"), haproxyConfiguration(port, backendPort));
      return ["haproxy", "-db", "-f", join(folder, "haproxy.cfg")];
    });
    for (const subject of subjects) wrk(subject.port, "/small", 1);
    const samples = new Map<string, Sample[]>(subjects.map(({ name }) => [name, []]));
    for (let round = 0; round < rounds; round++)
      for (const subject of subjects) samples.get(subject.name)!.push(measure(subject));
    report(samples);
  } finally {
    for (const child of started) child.kill();
    await Promise.all(started.map((child) => child.exited));
    rmSync(folder, { recursive: true, force: true });
  }
}

const [role, ...ports] = process.argv.slice(2);
if (role === "backend") serveBackend(Number(ports[0]));
else if (role === "proxy") await serveProxy(Number(ports[0]), Number(ports[1]));
else await main();
