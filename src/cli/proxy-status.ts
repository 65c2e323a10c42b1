// `meshbed proxy-status`: what the control plane has told each proxy, and what the proxy made of it.

import { humanDuration } from "../api/duration.ts";
import { readProxyStatus } from "../cluster/control.ts";
import { requireRunning } from "../cluster/state.ts";
import { realClock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { shortType } from "../xds/protocol.ts";
import type { TypeStatus } from "../xds/push.ts";
import type { StreamStatus } from "../xds/server.ts";
import { type TypeUrl, typeUrls } from "../xds/types.ts";
import { paint, table } from "./terminal.ts";

/** As istioctl's: SYNCED: all there is was sent and taken; STALE: sent and not answered, or changed since; NACK: refused. */
export type SyncState = "SYNCED" | "STALE" | "NACK" | "NOT SENT";

const columns: readonly [string, TypeUrl][] = [
  ["CDS", typeUrls.cluster],
  ["LDS", typeUrls.listener],
  ["EDS", typeUrls.endpoint],
  ["RDS", typeUrls.route],
  ["SDS", typeUrls.secret],
];
/** Resource names listed per type. */
const namesShownMax = 50;
const colours = { SYNCED: paint.green, STALE: paint.yellow, NACK: paint.red, "NOT SENT": paint.dim } as const;

export function syncState(type: TypeStatus | undefined): SyncState {
  if (type === undefined || type.state.kind === "waiting") return "NOT SENT";
  if (type.state.kind === "nacked" || Object.keys(type.refused).length > 0) return "NACK";
  return type.state.kind === "acked" && type.current ? "SYNCED" : "STALE";
}

/** "pod.namespace" of a sidecar or gateway, the name of a node, or the id itself. */
export function proxyName(nodeId: string): string {
  const [role, , name] = nodeId.split("~");
  return name ? (role === "node" ? `${name} (node)` : name) : nodeId;
}

function changedAtMs({ state }: TypeStatus): number {
  if (state.kind === "waiting") return 0;
  return state.kind === "sent" ? state.sentAtMs : state.kind === "acked" ? state.ackedAtMs : state.nackedAtMs;
}

/** The rows of all proxies, head first, and below it what was refused. */
export function statusLines(streams: readonly StreamStatus[], nowMs: number): string[] {
  const rows = [["NAME", "CLUSTER", ...columns.map(([title]) => title), "LAST CHANGE"]];
  const refusals: string[] = [];
  for (const { nodeId, connectedAtMs, types } of sorted(streams)) {
    const name = proxyName(nodeId);
    const states = columns.map(([, typeUrl]) => {
      const state = syncState(types.find((type) => type.typeUrl === typeUrl));
      return colours[state](state);
    });
    const lastMs = Math.max(connectedAtMs, ...types.map(changedAtMs));
    rows.push([name, "Kubernetes", ...states, humanDuration(nowMs - lastMs)]);
    for (const type of types)
      for (const reason of reasonsOf(type)) refusals.push(`${name}: ${shortType(type.typeUrl)} refused: ${reason}`);
  }
  return [...table(rows, ""), ...refusals.map((text) => paint.red(text))];
}

/** One proxy: per type the counts, and by name what was sent and not taken, and what was not sent. */
export function detailLines({ nodeId, peer, variant, types }: StreamStatus, nowMs: number): string[] {
  const lines = [`${nodeId}`, `connected from ${peer}, ${variant === "delta" ? "delta" : "state of the world"}`, ""];
  const rows = [["TYPE", "STATE", "RESOURCES", "LAST CHANGE"]];
  for (const type of types) {
    const state = syncState(type);
    const changed = changedAtMs(type);
    const age = changed === 0 ? "" : humanDuration(nowMs - changed);
    rows.push([shortType(type.typeUrl), colours[state](state), String(type.resources), age]);
  }
  lines.push(...table(rows, ""));
  for (const type of types) {
    const title = shortType(type.typeUrl);
    lines.push(...section(`${title} sent, not answered`, type.unanswered));
    lines.push(...section(`${title} changed, not sent yet`, type.unsent));
    const refused = Object.entries(type.refused).map(([name, reason]) => `${name}  ${paint.red(reason)}`);
    lines.push(...section(`${title} sent, refused`, refused));
  }
  const inStep = types.every((type) => syncState(type) === "SYNCED");
  if (inStep) lines.push("", "The proxy has taken all it was sent; there is nothing else to send.");
  return lines;
}

function section(title: string, names: readonly string[]): string[] {
  if (names.length === 0) return [];
  const more = names.length > namesShownMax ? [`  and ${names.length - namesShownMax} more`] : [];
  return ["", `${title}:`, ...names.slice(0, namesShownMax).map((name) => `  ${name}`), ...more];
}

const reasonsOf = ({ state, refused }: TypeStatus): string[] => [
  ...new Set(state.kind === "nacked" ? [state.reason] : Object.values(refused)),
];

const sorted = (streams: readonly StreamStatus[]): StreamStatus[] =>
  streams.toSorted((a, b) => (proxyName(a.nodeId) < proxyName(b.nodeId) ? -1 : 1));

/** By "pod", "pod.namespace", "namespace/pod", a node's name or a whole node id. */
export function findProxy(streams: readonly StreamStatus[], wanted: string): StreamStatus[] {
  const [namespace, pod] = wanted.includes("/") ? wanted.split("/") : [undefined, undefined];
  const dotted = pod === undefined ? wanted : `${pod}.${namespace}`;
  return streams.filter(({ nodeId }) => {
    const name = nodeId.split("~")[2] ?? "";
    return nodeId === wanted || name === dotted || name.slice(0, name.lastIndexOf(".")) === dotted;
  });
}

export async function proxyStatus(stateDir: string, name: string | undefined, output: "text" | "json"): Promise<void> {
  requireRunning(stateDir);
  process.chdir(stateDir);
  const all = await readProxyStatus();
  const found = name === undefined ? all : findProxy(all, name);
  if (name !== undefined && found.length === 0)
    throw new MeshbedError("NO_SUCH_PROXY", `no proxy '${name}' is connected to the control plane`, {
      fix: `there are: ${all.map(({ nodeId }) => proxyName(nodeId)).join(", ") || "none"}`,
    });
  const nowMs = realClock.now();
  if (output === "json") console.log(JSON.stringify(sorted(found), null, 2));
  else if (name === undefined) for (const line of statusLines(found, nowMs)) console.log(line);
  else for (const stream of found) for (const line of detailLines(stream, nowMs)) console.log(line);
}
