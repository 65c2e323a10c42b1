// Starts what is compared: meshbed, nginx and HAProxy as a gateway, meshbed and HAProxy as a pair with mutual TLS between the two.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createAuthority } from "../../src/identity/authority.ts";
import { realClock } from "../../src/kernel/clock.ts";
import type { GatewayFacts, Role } from "./child.ts";
import { freePort, loadCore, proxyCore, which, withChildren } from "./processes.ts";
import {
  haproxyConfiguration,
  haproxyMap,
  haproxyTunnelClient,
  haproxyTunnelServer,
  nginxConfiguration,
  spiffe,
} from "./rivals.ts";
import type { Bench, Child, Lab, Subject } from "./types.ts";

const hourMs = 3_600_000;
const startMaxMs = 10_000;
const startPollMs = 25;

export interface GatewayOptions extends Omit<GatewayFacts, "port" | "backendPort"> {
  /** For the rivals, which want to know. */
  connectionsMax?: number;
}

/** The child's program in one file, as the testbed runs its own: a process that loads the sources would hold more memory. */
export async function bundleChild(lab: Lab): Promise<void> {
  const result = await Bun.build({
    entrypoints: [join(import.meta.dir, "child.ts")],
    target: "bun",
    splitting: true,
    minify: { whitespace: true, syntax: true },
    outdir: lab.folder,
  });
  if (!result.success) throw new Error(`the proxy does not compile: ${result.logs[0]}`);
}

const startOwn = (lab: Lab, core: string, role: Role): Child =>
  lab.start(core, [process.execPath, join(lab.folder, "child.js"), JSON.stringify(role)]);

export async function startBackend(lab: Lab): Promise<number> {
  const port = freePort();
  startOwn(lab, loadCore, { role: "backend", port });
  await listens(port);
  return port;
}

async function listens(port: number): Promise<void> {
  const deadlineMs = realClock.monotonicMs() + startMaxMs;
  for (;;) {
    const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } }).catch(() => undefined);
    socket?.end();
    if (socket) return;
    if (realClock.monotonicMs() > deadlineMs) throw new Error(`nothing listens on port ${port}`);
    await realClock.sleep(startPollMs);
  }
}

async function subject(name: string, port: number, children: Child[]): Promise<Subject> {
  await listens(port);
  return {
    name,
    port,
    pids: () => children.flatMap(({ pid }) => withChildren(pid)),
    stop: async () => void (await Promise.all(children.map((child) => child.stop()))),
  };
}

type Starter = (bench: Bench, options: GatewayOptions) => Promise<Subject>;

const meshbed: Starter = ({ lab, backendPort }, options) => {
  const port = freePort();
  return subject("meshbed", port, [startOwn(lab, proxyCore, { role: "gateway", port, backendPort, ...options })]);
};

/** A gateway as it runs in a mesh: configured over ADS by a control plane on the load core. */
export async function startMeshGateway({ lab, backendPort }: Bench, options: GatewayOptions): Promise<Subject> {
  const { ca, client, server } = await writeCertificates(lab);
  const [port, adsPort] = [freePort(), freePort()];
  const gateway = { port, backendPort, ...options };
  startOwn(lab, loadCore, { role: "controlPlane", adsPort, pem: server, ca, gateway });
  await listens(adsPort);
  return subject("meshbed", port, [startOwn(lab, proxyCore, { role: "meshGateway", adsPort, pem: client, ca })]);
}

const facts = (bench: Bench, port: number, { pem, routes = 0, connectionsMax = 1000 }: GatewayOptions) => {
  const folder = join(bench.lab.folder, String(port));
  mkdirSync(folder);
  return { folder, port, backendPort: bench.backendPort, pem, routes, connectionsMax };
};

const nginx: Starter = (bench, options) => {
  const port = freePort();
  const given = facts(bench, port, options);
  const file = join(given.folder, "nginx.conf");
  writeFileSync(file, nginxConfiguration(given));
  return subject("nginx", port, [bench.lab.start(proxyCore, [which("nginx")!, "-c", file])]);
};

/** meshbed gateways that differ in one thing. */
export async function startVariants(bench: Bench, variants: Record<string, GatewayOptions>): Promise<Subject[]> {
  const subjects: Subject[] = [];
  for (const [name, options] of Object.entries(variants))
    subjects.push({ ...(await meshbed(bench, options)), name: `meshbed ${name}` });
  return subjects;
}

const haproxy =
  (name: string, splice: boolean): Starter =>
  (bench, options) => {
    const port = freePort();
    const given = facts(bench, port, options);
    const map = join(given.folder, "routes.map");
    writeFileSync(map, haproxyMap(given.routes));
    const text = haproxyConfiguration({ ...given, splice, map });
    return subject(name, port, [startHaproxy(bench.lab, given.folder, text)]);
  };

function startHaproxy(lab: Lab, folder: string, configuration: string): Child {
  const file = join(folder, "haproxy.cfg");
  writeFileSync(file, configuration);
  return lab.start(proxyCore, [which("haproxy")!, "-db", "-f", file]);
}

const gateways = {
  meshbed,
  nginx,
  haproxy: haproxy("haproxy", false),
  /** Debian's default is without: it is a column of its own where bodies are streamed. */
  "haproxy splice-auto": haproxy("haproxy splice-auto", true),
} satisfies Record<string, Starter>;

export type GatewayName = keyof typeof gateways;

const missing = new Set<string>();

/** False, with one line said once, when the program is not installed. */
export function installed(command: string): boolean {
  if (command === "meshbed" || which(command)) return true;
  if (!missing.has(command)) console.error(`${command} is not installed: left out (apt-get install ${command})`);
  missing.add(command);
  return false;
}

export async function startGateways(
  bench: Bench,
  names: readonly GatewayName[],
  options: GatewayOptions = {},
): Promise<Subject[]> {
  const subjects: Subject[] = [];
  for (const name of names) if (installed(name.split(" ")[0]!)) subjects.push(await gateways[name](bench, options));
  return subjects;
}

/** ECDSA P-256, from one authority; each file holds a certificate and its key. */
export async function writeCertificates(lab: Lab): Promise<{ ca: string; client: string; server: string }> {
  const authority = await createAuthority({ commonName: "bench", clock: realClock });
  const issue = async (name: string): Promise<string> => {
    const { certPem, keyPem } = await authority.issue({
      uris: [spiffe(name)],
      dnsNames: [`${name}.test`, "localhost"],
      lifetimeMs: hourMs,
      usages: ["server", "client"],
    });
    return write(`${name}.pem`, `${certPem.trimEnd()}\n${keyPem}`);
  };
  const write = (name: string, text: string): string => {
    writeFileSync(join(lab.folder, name), text);
    return join(lab.folder, name);
  };
  return { ca: write("ca.pem", authority.certPem), client: await issue("client"), server: await issue("server") };
}

/** Two proxies on the proxy core with TLS 1.3 and client certificates between them, keep-alive everywhere. */
export async function startPairs(bench: Bench): Promise<Subject[]> {
  const { lab, backendPort } = bench;
  const { ca, client, server } = await writeCertificates(lab);
  const [port, tunnelPort] = [freePort(), freePort("127.0.0.3")];
  const own = await subject("meshbed", port, [
    startOwn(lab, proxyCore, { role: "tunnelServer", tunnelPort, backendPort, pem: server, ca }),
    startOwn(lab, proxyCore, { role: "tunnelClient", port, tunnelPort, backendPort, pem: client, ca }),
  ]);
  if (!installed("haproxy")) return [own];
  const folder = (name: string): string => {
    mkdirSync(join(lab.folder, name), { recursive: true });
    return join(lab.folder, name);
  };
  const [first, second] = [freePort(), freePort()];
  const server2 = haproxyTunnelServer({ port: second, targetPort: backendPort, pem: server, ca });
  const client2 = haproxyTunnelClient({ port: first, targetPort: second, pem: client, ca });
  const rival = await subject("haproxy", first, [
    startHaproxy(lab, folder("second"), server2),
    startHaproxy(lab, folder("first"), client2),
  ]);
  return [own, rival];
}
