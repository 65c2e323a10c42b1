// The running testbed for `meshbed explain`: its objects, and a real request beside the prediction.

import { createClient } from "../client/client.ts";
import { httpTransport } from "../client/http.ts";
import { loadKubeconfig } from "../client/kubeconfig.ts";
import { type ClusterConfig, loadConfig, statePaths } from "../cluster/config.ts";
import { requireRunning } from "../cluster/state.ts";
import type { Context } from "../explain/context.ts";
import { type Asked, findWorkload, readAsk, resolveName } from "../explain/entry.ts";
import { percentText, statusText } from "../explain/render.ts";
import type { Ask, Explanation, Outcome, World } from "../explain/types.ts";
import { meshResources, noFiles, worldOfObjects } from "../explain/world.ts";
import { enterMachineArgv } from "../host/enter.ts";
import { podNamespace } from "../host/pod-network.ts";
import { realClock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { type OneAnswer, type OneRequest, sendOnce } from "./send_once.ts";
import { formatMs, paint } from "./terminal.ts";

const requestTimeoutMs = 5_000;
/** Throws NOT_RUNNING. */
export async function liveWorld(stateDir: string): Promise<World> {
  requireRunning(stateDir);
  const config = loadConfig(stateDir);
  const kubeconfig = await loadKubeconfig(statePaths(stateDir).kubeconfig);
  const client = createClient(httpTransport({ ...kubeconfig, requestTimeoutMs }));
  const lists = await Promise.all(
    meshResources.map(async ([, resource]) => {
      const { items } = await client.list(resource);
      const apiVersion = resource.group === "" ? resource.version : `${resource.group}/${resource.version}`;
      // Objects in a list do not repeat what the list says.
      return items.map((item) => ({ ...item, apiVersion, kind: resource.kind }));
    }),
  );
  const { http, https } = config.hostPorts;
  const relayed = new Map([
    [http, 80],
    [https, 443],
  ]);
  return { ...worldOfObjects(lists.flat(), noFiles, realClock.now(), relayed), mode: config.isolation.mode };
}

/** Sends the request for real and says whether the prediction held. */
export async function sendAndCompare(
  stateDir: string,
  ask: Ask,
  explanation: Explanation,
  context: Context,
): Promise<void> {
  const asked = readAsk(ask);
  const answer = await send(stateDir, ask, asked, context);
  const { outcomes } = explanation;
  const agreed = outcomes.find((outcome) => agrees(outcome, answer));
  const fact = answer.status === 0 ? `connection closed (${answer.error})` : String(answer.status);
  console.log();
  console.log(
    `${paint.bold("predicted")}  ${outcomes.map((one) => `${percentText(one.percent)} ${statusText(one)}`).join(" | ")}`,
  );
  console.log(`${paint.bold("sent")}       ${fact} after ${formatMs(answer.durationMs)}`);
  const line = answer.body.split("\n")[0]!.slice(0, 120);
  if (line !== "") console.log(paint.dim(`           ${line}`));
  if (agreed) console.log(`${paint.green("✓")} as predicted: ${agreed.reason}`);
  else {
    console.log(`${paint.red("✗")} not as predicted`);
    process.exitCode = 1;
  }
}

/** What our proxies answer by themselves when nobody behind them does. */
const ownAnswers =
  /^(no healthy upstream|upstream connect error|upstream request timeout|RBAC: access denied|fault filter abort|Jwt )/;

export function agrees({ status, destination }: Outcome, answer: Pick<OneAnswer, "status" | "body">): boolean {
  if (status !== undefined) return status === answer.status;
  return destination !== undefined && answer.status !== 0 && !ownAnswers.test(answer.body);
}

async function send(
  stateDir: string,
  { method, from, headers }: Ask,
  asked: Asked,
  context: Context,
): Promise<OneAnswer> {
  const running = requireRunning(stateDir);
  const config = loadConfig(stateDir);
  const { secure, port, authority, path, url } = asked;
  const own = headers.filter(([name]) => name.toLowerCase() !== "host");
  const one = { secure, serverName: url.hostname, method, path, headers: [["host", authority] as const, ...own] };
  const workload =
    from === undefined || from === "outside" || from === "gateway" ? undefined : findWorkload(context.model, from);
  if (workload === undefined || workload.gateway)
    return sendOnce({ ...one, address: "127.0.0.1", port: relayPort(config, port, secure) });
  if (config.isolation.mode === "ports")
    throw new MeshbedError("EXPLAIN_SEND", "in ports mode a request cannot be sent from within a pod", {
      fix: "send from outside: leave --from away",
    });
  const podId = workload.pod.metadata.uid;
  const machine = workload.pod.spec?.hostNetwork ? workload.nodeName : podNamespace(workload.nodeName, podId);
  const inside: OneRequest = {
    ...one,
    port,
    address: resolveName(context.model, url.hostname, workload.namespace).address,
  };
  const command = [process.execPath, `${import.meta.dir}/send_once.ts`, JSON.stringify(inside)];
  const child = Bun.spawn(enterMachineArgv(running.sandboxPid, config.isolation, machine, command), {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [text, problem] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0)
    throw new MeshbedError("EXPLAIN_SEND", `sending from ${workload.key} failed: ${problem.trim().slice(0, 300)}`);
  return JSON.parse(text) as OneAnswer;
}

/** The port of this machine that leads to the gateway's. */
function relayPort({ hostPorts }: ClusterConfig, port: number, secure: boolean): number {
  if (port === hostPorts.http || port === hostPorts.https) return port;
  if (port === 80 || port === 443 || port === 8080 || port === 8443) return secure ? hostPorts.https : hostPorts.http;
  throw new MeshbedError("EXPLAIN_SEND", `nothing on this machine leads to port ${port} of the gateway`, {
    fix: `ports ${hostPorts.http} and ${hostPorts.https} lead to its ports 80 and 443`,
  });
}
