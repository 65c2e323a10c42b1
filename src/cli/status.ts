// `meshbed status`: what runs, where it is reached, and what is not ready, in one screen.

import * as resources from "../api/resources.ts";
import { createClient } from "../client/client.ts";
import { httpTransport } from "../client/http.ts";
import { loadKubeconfig } from "../client/kubeconfig.ts";
import { type ClusterConfig, loadConfig, statePaths } from "../cluster/config.ts";
import { requireRunning } from "../cluster/state.ts";
import { summarize } from "../cluster/status.ts";
import { realClock } from "../kernel/clock.ts";
import { formatUptime, paint, table } from "./terminal.ts";

/** Where a person reaches the testbed, as rows of a table. */
export function urlRows(config: ClusterConfig): string[][] {
  const { http, https, api } = config.hostPorts;
  const name = config.bundledApplication ? "Video platform" : "Ingress gateway";
  return [
    [name, paint.cyan(`http://localhost:${http}`)],
    ["  with TLS", `${paint.cyan(`https://localhost:${https}`)} ${paint.dim("(self-signed)")}`],
    ["Kubernetes API", paint.cyan(`https://127.0.0.1:${api}`)],
    ["kubectl", `export KUBECONFIG=${statePaths(config.stateDir).kubeconfig}`],
  ];
}

export async function status(stateDir: string): Promise<void> {
  const running = requireRunning(stateDir);
  const config = loadConfig(stateDir);
  const client = createClient(
    httpTransport({ ...(await loadKubeconfig(statePaths(stateDir).kubeconfig)), requestTimeoutMs: 3_000 }),
  );
  console.log(
    `${paint.green("●")} running for ${formatUptime(realClock.now() - running.startedAtMs)} (${config.isolation.reason})\n`,
  );
  for (const row of table(urlRows(config))) console.log(row);
  const [nodes, pods] = await Promise.all([client.list(resources.nodes), client.list(resources.pods)]);
  const summary = summarize(nodes.items, pods.items);
  const rows = [["NODE", "STATUS", "ADDRESS", "PODS READY"]];
  for (const node of nodes.items) {
    const own = pods.items.filter((pod) => pod.spec?.nodeName === node.metadata.name);
    const { pods: counts, nodes: state } = summarize([node], own);
    const address = node.status?.addresses?.find(({ type }) => type === "InternalIP")?.address ?? "";
    rows.push([
      node.metadata.name,
      state.ready === 1 ? paint.green("Ready") : paint.red("NotReady"),
      address,
      `${counts.ready}/${counts.total}`,
    ]);
  }
  console.log();
  for (const row of table(rows)) console.log(row);
  for (const { pod, status: reason } of summary.waiting) console.log(`  ${paint.yellow("!")} ${pod}: ${reason}`);
}
