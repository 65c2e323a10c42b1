// Explains generated requests and sends them, one configuration after another; prints disagreements and a summary as JSON.
// Runs in a network namespace of its own: see agreement.test.ts.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createContext } from "../../src/explain/context.ts";
import { explain } from "../../src/explain/explain.ts";
import type { Explanation, Outcome, World } from "../../src/explain/types.ts";
import { worldOfFiles } from "../../src/explain/world.ts";
import { seededRandom } from "../../src/kernel/random.ts";
import { type Answer, Connection } from "./client.ts";
import { type CaseRequest, generate } from "./generate.ts";
import { type AgreementMesh, type Echo, startMesh } from "./mesh.ts";

const base = readFileSync(join(import.meta.dir, "base.yaml"), "utf8");
const nowMs = Date.now();
/** Disagreements that are printed whole; all are counted. */
const shownMax = 5;

/** Where callers are, and where their requests go. */
const callers: Readonly<Record<string, string>> = { outside: "127.0.0.1", client: "127.11.0.9", other: "127.11.1.9" };
const gatewayAddress = "127.30.0.1";
const serviceAddresses: readonly (readonly [RegExp, string])[] = [
  [/^web/, "127.96.0.20"],
  [/^api/, "127.96.0.21"],
];

export interface Disagreement {
  seed: number;
  request: CaseRequest;
  predicted: string[];
  got: string;
  why: string;
  yaml: string;
}

export interface Summary {
  configurations: number;
  requests: number;
  disagreements: number;
  /** How often each kind of end was met: shows that the generator reaches them. */
  ends: Record<string, number>;
  explainMs: number;
  durationMs: number;
  shown: Disagreement[];
}

const worldOf = (yaml: string): World =>
  worldOfFiles(
    [
      { file: "base.yaml", text: base },
      { file: "case.yaml", text: yaml },
    ],
    nowMs,
  );

async function runCase(mesh: AgreementMesh, seed: number, requestCount: number, summary: Summary): Promise<void> {
  const { yaml, requests } = generate(seededRandom(seed), requestCount);
  const world = worldOf(yaml);
  const context = createContext(world);
  await mesh.apply(world.objects);
  const connections = new Map<string, Connection>();
  for (const request of requests) {
    const { from, method, host, path, headers } = request;
    const startedMs = performance.now();
    const explanation = await explain(context, {
      method,
      url: `http://${host}${path}`,
      headers,
      from: from === "outside" ? callers["outside"]! : from,
    });
    summary.explainMs += performance.now() - startedMs;
    const address = from === "outside" ? gatewayAddress : serviceAddresses.find(([name]) => name.test(host))![1];
    const key = `${from} ${address}`;
    const connection = connections.get(key) ?? new Connection(callers[from]!, address, 80);
    connections.set(key, connection);
    const answer = await connection.send(method, path, host, headers);
    summary.requests++;
    const end = endOf(answer);
    summary.ends[end] = (summary.ends[end] ?? 0) + 1;
    const why = disagreement(explanation, answer);
    if (why === undefined) continue;
    summary.disagreements++;
    if (summary.shown.length >= shownMax) continue;
    const predicted = explanation.outcomes.map((one) => JSON.stringify(one));
    summary.shown.push({
      seed,
      request,
      predicted,
      got: `${answer.status} ${echoOf(answer) ? JSON.stringify(echoOf(answer)) : answer.body}`,
      why,
      yaml,
    });
  }
  for (const connection of connections.values()) connection.close();
  context.close();
}

function echoOf({ headers }: Answer): Echo | undefined {
  const text = headers.get("x-echo");
  return text === undefined ? undefined : (JSON.parse(Buffer.from(text, "base64").toString()) as Echo);
}

const endOf = (answer: Answer): string => (echoOf(answer) ? "application" : String(answer.status));

/** Undefined when the answer is one of those predicted. */
function disagreement({ outcomes }: Explanation, answer: Answer): string | undefined {
  const reasons: string[] = [];
  for (const outcome of outcomes) {
    const reason = differs(outcome, answer);
    if (reason === undefined) return undefined;
    reasons.push(reason);
  }
  return reasons.join("; ");
}

function differs(outcome: Outcome, answer: Answer): string | undefined {
  const echo = echoOf(answer);
  if (outcome.status !== undefined) {
    if (echo) return `the application answered, not a proxy with ${outcome.status}`;
    if (outcome.status !== answer.status) return `status ${answer.status}, not ${outcome.status}`;
    if (outcome.location !== undefined && outcome.location !== answer.headers.get("location"))
      return `location ${answer.headers.get("location")}, not ${outcome.location}`;
    return undefined;
  }
  if (echo === undefined) return `status ${answer.status} by a proxy, not the application`;
  const { destination } = outcome;
  if (destination === undefined) return "no destination predicted";
  if (!destination.pods.includes(echo.pod)) return `pod ${echo.pod}, not ${destination.pods.join("/")}`;
  if (destination.method !== echo.method) return `method ${echo.method}, not ${destination.method}`;
  if (destination.path !== echo.path) return `path ${echo.path}, not ${destination.path}`;
  const [want, got] = [destination.headers, echo.headers].map(fieldsOf);
  return want === got ? undefined : `fields ${got}, not ${want}`;
}

/** Fields that are made anew for each request. */
const unique: ReadonlySet<string> = new Set(["x-request-id"]);

const fieldsOf = (headers: readonly (readonly [string, string])[]): string =>
  headers
    .filter(([name]) => !unique.has(name))
    // The certificate's hash is known only to whoever has seen it.
    .map(([name, value]) => `${name}: ${name === "x-forwarded-client-cert" ? value.replace(/Hash=\w+;/, "") : value}`)
    .sort()
    .join(" | ");

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    configurations: { type: "string", default: "200" },
    requests: { type: "string", default: "50" },
  },
});
const summary: Summary = {
  configurations: 0,
  requests: 0,
  disagreements: 0,
  ends: {},
  explainMs: 0,
  durationMs: 0,
  shown: [],
};
const startedMs = performance.now();
const mesh = await startMesh(worldOf("").objects);
for (let index = 0; index < Number(values.configurations); index++) {
  await runCase(mesh, Number(values.seed) + index, Number(values.requests), summary);
  summary.configurations++;
}
summary.durationMs = performance.now() - startedMs;
await mesh.close();
console.log(JSON.stringify(summary));
process.exit(0);
