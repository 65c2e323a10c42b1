// A testbed with the echo servers of examples/istio, and requests to them: from outside by the gateway, or sent by a pod of the mesh.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root, startTestbed, type Testbed, type TestbedOptions, until } from "./testbed.ts";

/** What the echo server says of a request; see examples/istio/echo.ts. */
export interface Came {
  pod: string;
  version: string;
  method: string;
  path: string;
  /** Requests with this key until now. */
  times: number;
  host: string;
  headers: Record<string, string>;
  body: string;
}

export interface Answer {
  /** 0: there was none. */
  status: number;
  headers: Record<string, string>;
  body: string;
  tookMs: number;
}

export interface Order {
  url: string;
  method?: string;
  headers?: Record<string, string>;
  count?: number;
  workers?: number;
  timeoutMs?: number;
  /** https: whose certificate it is does not matter. */
  insecure?: boolean;
}

/** Clients in the mesh: red in namespace echo, blue in namespace elsewhere. */
export type Color = "red" | "blue";

export interface EchoBed extends Testbed {
  /** One request through the gateway for this host. */
  get(host: string, path: string, init?: RequestInit): Promise<Answer>;
  /** Several, `workers` at once. */
  many(count: number, workers: number, send: () => Promise<Answer>): Promise<Answer[]>;
  /** Sent by a client's pod, through its own proxy. */
  from(client: Color, order: Order): Promise<Answer[]>;
  /** A file of examples/istio; returns when its rules hold at the gateway and at both clients. */
  example(file: string): Promise<void>;
  /** The same for objects of networking.istio.io in namespace echo. */
  rules(...objects: { kind: string; name: string; namespace?: string; spec: object }[]): Promise<void>;
  /** Sum of a metric's samples with all these labels: at the gateway's, a client's ("red") or a node's ("worker1") proxy. */
  metric(of: string, name: string, labels: Record<string, string>): Promise<number>;
}

export const came = (answer: Answer): Came => JSON.parse(answer.body) as Came;

export const tally = (answers: readonly Answer[], by: (answer: Answer) => string): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const answer of answers) counts[by(answer)] = (counts[by(answer)] ?? 0) + 1;
  return counts;
};

const folder = join(root, "examples/istio");
const effectMs = 5_000;

export async function startEcho(options: TestbedOptions = {}): Promise<EchoBed> {
  const testbed = await startTestbed({
    ...options,
    args: ["-f", join(folder, "echo.yaml"), ...(options.args ?? [])],
  });
  const get: EchoBed["get"] = async (host, path, init = {}) => {
    const startedMs = performance.now();
    const headers = { ...(init.headers as Record<string, string>), host };
    const response = await fetch(`${testbed.url}${path}`, { redirect: "manual", ...init, headers });
    const body = await response.text();
    const tookMs = performance.now() - startedMs;
    return { status: response.status, headers: Object.fromEntries(response.headers), body, tookMs };
  };
  const from: EchoBed["from"] = async (client, order) => {
    const answer = await get(`${client}.client`, "/forward", { method: "POST", body: JSON.stringify(order) });
    if (answer.status !== 200) throw new Error(`${client}: ${answer.status} ${answer.body}`);
    return JSON.parse(answer.body) as Answer[];
  };
  let step = 0;
  /** What was applied before a rule that holds everywhere holds everywhere too: configuration is pushed in order. */
  const holds = async () => {
    const name = `step-${++step}.test`;
    const http = [{ directResponse: { status: 200, body: { string: name } } }];
    const spec = { hosts: [name], gateways: ["echo", "mesh"], http };
    const metadata = { name: "step", namespace: "echo" };
    await testbed.apply(
      JSON.stringify({ apiVersion: "networking.istio.io/v1", kind: "VirtualService", metadata, spec }),
    );
    await until("the rules hold at the gateway", effectMs, async () => (await get(name, "/")).body === name);
    for (const client of ["red", "blue"] as const)
      await until(`the rules hold at client ${client}`, effectMs, async () => {
        const [answer] = await from(client, { url: "http://server.echo/", headers: { host: name } });
        return answer?.body === name;
      });
  };
  return {
    ...testbed,
    get,
    from,
    async many(count, workers, send) {
      const answers: Answer[] = [];
      let started = 0;
      const worker = async () => {
        while (started < count) {
          started++;
          answers.push(await send());
        }
      };
      await Promise.all(Array.from({ length: workers }, worker));
      return answers;
    },
    async example(file) {
      await testbed.apply(readFileSync(join(folder, file), "utf8"));
      await holds();
    },
    async rules(...objects) {
      const items = objects.map(({ kind, name, namespace = "echo", spec }) => {
        const metadata = { name, namespace };
        return { apiVersion: "networking.istio.io/v1", kind, metadata, spec };
      });
      await testbed.apply(JSON.stringify({ apiVersion: "v1", kind: "List", items }));
      await holds();
    },
    metric: (of, name, labels) => readMetric(testbed, of, name, labels),
  };
}

async function readMetric(testbed: Testbed, of: string, name: string, labels: Record<string, string>): Promise<number> {
  const { node, url } = await adminOf(testbed, of);
  const { stdout } = await testbed.meshbed("exec", node, "--", "curl", "-s", url);
  let sum = 0;
  for (const [, text, value] of stdout.matchAll(new RegExp(`^${name}\\{([^}]*)\\} (\\S+)$`, "gm")))
    if (Object.entries(labels).every(([label, wanted]) => `,${text},`.includes(`,${label}="${wanted}",`)))
      sum += Number(value);
  return sum;
}

/** Of a gateway's own proxy, or of the node's where a client runs. */
async function adminOf(testbed: Testbed, of: string): Promise<{ node: string; url: string }> {
  const worker = /^worker(\d+)$/.exec(of);
  if (worker) return { node: of, url: `http://172.20.0.${10 + Number(worker[1])}:15020/metrics` };
  const namespace = { gateway: "istio-system", red: "echo", blue: "elsewhere" }[of]!;
  const selector = of === "gateway" ? "istio=ingressgateway" : "app=client";
  const pods = JSON.parse(await testbed.kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "json"));
  const { spec, status } = pods.items[0];
  const url = of === "gateway" ? `http://${status.podIP}:15021/metrics` : `http://${status.hostIP}:15020/metrics`;
  return { node: spec.nodeName, url };
}
