// The admin pages by path: what each answers. Pages that change something are POST, and only for a proxy that runs alone.

import manifest from "../../../package.json" with { type: "json" };
import type { Clock } from "../../kernel/clock.ts";
import { messageOf } from "../../kernel/errors.ts";
import type { Metrics } from "../../kernel/metrics.ts";
import { envoyLevels } from "../log/levels.ts";
import { compileRe2 } from "../routing/match.ts";
import type { AdminSettings } from "../types.ts";
import type { XdsNode } from "../xds_node.ts";
import { clustersJson, clustersText } from "./clusters.ts";
import { indexPage } from "./index_page.ts";
import { type ListenerFacts, listenersJson, listenersText } from "./listeners.ts";
import {
  clusterStats,
  downstreamStats,
  filterStats,
  listenerStats,
  type SocketFacts,
  type Stat,
  type StatsFilter,
  serverStats,
  statsJson,
  statsPrometheus,
  statsText,
} from "./stats.ts";

export type ServerState = "LIVE" | "DRAINING" | "PRE_INITIALIZING";
const stateNumber: Record<ServerState, number> = { LIVE: 0, DRAINING: 1, PRE_INITIALIZING: 2 };

/** The proxy as its admin pages see it. */
export interface AdminView {
  settings: AdminSettings;
  clock: Clock;
  metrics: Metrics;
  startedMs: number;
  state(): ServerState;
  /** The process's own node first. Named "namespace/pod", or by node id. */
  nodes(): { name: string; node: XdsNode }[];
  listeners(node: XdsNode): ListenerFacts[];
  sockets(): SocketFacts[];
  /** Stops listening; connections end with their next answer. */
  drain(): void;
  /** What a health check of this proxy is told from now on. */
  setHealthy(healthy: boolean): void;
}

export interface Page {
  path: string;
  /** Parameters as a person would type them. */
  query?: string;
  help: string;
  changes?: true;
  answer(ask: Ask): Response | Promise<Response>;
}

export interface Ask {
  view: AdminView;
  query: URLSearchParams;
  /** The Accept field. */
  accept: string;
  /** The node that ?workload= selects; the process's own without it. */
  name: string;
  node: XdsNode;
}

export const text = (body: string, status = 200): Response =>
  new Response(body, { status, headers: { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" } });

const json = (value: unknown): Response =>
  new Response(`${JSON.stringify(value, null, 1)}\n`, {
    headers: { "content-type": "application/json", "cache-control": "no-store" },
  });

/** Istio's metrics in Prometheus' text form. */
const exposition = (body: string): Response =>
  new Response(body, { headers: { "content-type": "text/plain; version=0.0.4" } });

/** OpenMetrics for those who ask for it (Prometheus does, and reads exemplars from it). */
function metricsPage({ view, accept }: Ask): Response {
  if (!accept.includes("application/openmetrics-text")) return exposition(view.metrics.expose());
  const type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
  return new Response(view.metrics.expose("openmetrics"), { headers: { "content-type": type } });
}

const isSet = (query: URLSearchParams, name: string): boolean =>
  query.has(name) && !["false", "0"].includes(query.get(name)!);

/** True for JSON, false for text; anything else is a mistake of the asker. */
function wantsJson(query: URLSearchParams): boolean {
  const format = query.get("format") ?? "text";
  if (format !== "json" && format !== "text") throw new BadRequest(`format=${format}: text or json\n`);
  return format === "json";
}

/** The answer to /quitquitquit goes out first. */
const quitAfterMs = 20;

/** Told to the asker as 400. */
export class BadRequest extends Error {}

function nameTest(pattern: string | null): (name: string) => boolean {
  if (pattern === null || pattern === "") return () => true;
  try {
    const program = compileRe2(pattern);
    return (name) => program.matcher(name).find();
  } catch (error) {
    throw new BadRequest(`not a regular expression (RE2): ${pattern}: ${messageOf(error)}\n`);
  }
}

// ---- statistics ----

const uptimeS = ({ clock, startedMs }: AdminView): number => Math.floor((clock.monotonicMs() - startedMs) / 1000);

function processStats(view: AdminView): Stat[] {
  const { heapUsed, rss } = process.memoryUsage();
  const sockets = view.sockets();
  const state = view.state();
  return [
    ...serverStats({
      uptimeS: uptimeS(view),
      live: state === "LIVE",
      state: stateNumber[state],
      connections: sockets.reduce((sum, { active }) => sum + active, 0),
      heapBytes: heapUsed,
      residentBytes: rss,
    }),
    ...listenerStats(sockets),
  ];
}

const nodeStats = (node: XdsNode): Stat[] => [
  ...[...node.downstream].flatMap(([key, counts]) => downstreamStats(key, counts)),
  ...[...node.clusters.values()].flatMap(clusterStats),
];

function filterOf(query: URLSearchParams): StatsFilter {
  const type = query.get("type")?.toLowerCase() ?? "all";
  const kind = { counters: "counter", gauges: "gauge", all: undefined } as const;
  if (!(type in kind)) throw new BadRequest(`type=${query.get("type")}: All, Counters or Gauges\n`);
  return {
    matches: nameTest(query.get("filter")),
    usedOnly: isSet(query, "usedonly"),
    kind: kind[type as keyof typeof kind],
  };
}

function stats({ view, query, node }: Ask): Response {
  const format = query.get("format") ?? "text";
  if (format === "prometheus") return prometheus({ view, query, node, name: "", accept: "" });
  const chosen = filterStats([...processStats(view), ...nodeStats(node)], filterOf(query));
  return wantsJson(query) ? json(statsJson(chosen)) : text(statsText(chosen));
}

/** Every node of this process (or the one that was asked for), told apart by the label "workload". */
function prometheus({ view, query }: Ask): Response {
  const filter = filterOf(query);
  const wanted = query.get("workload");
  const nodes = view.nodes().filter(({ name, node }) => wanted === null || wanted === name || wanted === node.nodeId);
  const labelled = nodes.flatMap(({ name, node }) =>
    filterStats(nodeStats(node), filter).map((stat) =>
      nodes.length === 1 ? stat : { ...stat, labels: { ...stat.labels, workload: name } },
    ),
  );
  const own = filterStats(processStats(view), filter);
  const isFiltered = query.has("filter") || wanted !== null;
  return exposition((isFiltered ? "" : view.metrics.expose()) + statsPrometheus([...own, ...labelled]));
}

// ---- configuration ----

async function configDumpPage({ view, query, node }: Ask): Promise<Response> {
  // Descriptors of every message are loaded by the first who asks: a proxy nobody looks into stays small.
  const { applyMask, configDump, selectResource } = await import("./config_dump.ts");
  const dump = configDump(node.accepted, {
    bootstrap: view.settings.standalone?.bootstrap(),
    includeEds: isSet(query, "include_eds"),
    wantsName: nameTest(query.get("name_regex")),
  });
  const resource = query.get("resource");
  const selected = resource === null ? dump : selectResource(dump, resource);
  if (selected === undefined) return text(`${resource} not found in config dump\n`, 404);
  const mask = query.get("mask");
  return json({ configs: mask === null ? selected : applyMask(selected, mask) });
}

function serverInfo({ view, node }: Ask): Response {
  const uptime = `${uptimeS(view)}s`;
  const { standalone } = view.settings;
  return json({
    version: `meshbed/${manifest.version}/Bun ${Bun.version}`,
    state: view.state(),
    hot_restart_version: "disabled",
    command_line_options: { concurrency: 1, mode: "Serve", ...(standalone && { config_path: standalone.configPath }) },
    node: { id: node.nodeId, cluster: standalone?.cluster ?? "" },
    uptime_current_epoch: uptime,
    uptime_all_epochs: uptime,
  });
}

function memory(): Response {
  const { heapUsed, heapTotal, rss } = process.memoryUsage();
  return json({ allocated: String(heapUsed), heap_size: String(heapTotal), total_physical_bytes: String(rss) });
}

function ready({ view }: Ask): Response {
  const state = view.state();
  return text(`${state}\n`, state === "LIVE" ? 200 : 503);
}

// ---- changes ----

function logging({ view, query }: Ask): Response {
  const { logLevel } = view.settings.standalone!;
  const wanted = query.get("level");
  if (wanted !== null) {
    const level = envoyLevels[wanted];
    if (level === undefined) throw new BadRequest(`level=${wanted}: one of ${Object.keys(envoyLevels).join(", ")}\n`);
    logLevel.level = level;
  }
  return text(`active loggers:\n  meshbed: ${logLevel.level}\n`);
}

function setHealthy(view: AdminView, healthy: boolean): Response {
  view.setHealthy(healthy);
  return text("OK\n");
}

const listenersPage = ({ view, query, node }: Ask): Response => {
  const listeners = view.listeners(node);
  return wantsJson(query) ? json(listenersJson(listeners)) : text(listenersText(listeners));
};

const clustersPage = ({ view, query, node }: Ask): Response => {
  const isDynamic = view.settings.standalone === undefined;
  const slots = node.clusters.values();
  return wantsJson(query) ? json(clustersJson(slots, isDynamic)) : text(clustersText(slots, isDynamic));
};

export const pages: readonly Page[] = [
  {
    path: "/",
    help: "this page",
    answer: ({ view, name, node }) => indexPage(view, pages, { name, node }, uptimeS(view)),
  },
  { path: "/help", help: "the pages as text", answer: () => text(helpText()) },
  { path: "/ready", help: "LIVE with 200 once everything serves; 503 before and while draining", answer: ready },
  { path: "/healthz/ready", help: "the same, as Istio's agent names it", answer: ready },
  { path: "/server_info", help: "version, state, uptime, node", answer: serverInfo },
  {
    path: "/workloads",
    help: "the xDS nodes in this process; ?workload=<name> selects one on every page",
    answer: ({ view }) =>
      json(view.nodes().map(({ name, node }) => ({ name, node: node.nodeId, ready: node.isReady }))),
  },
  { path: "/listeners", query: "?format=json", help: "what is listened on", answer: listenersPage },
  {
    path: "/clusters",
    query: "?format=json",
    help: "endpoints with health, weight and counts; circuit breakers",
    answer: clustersPage,
  },
  {
    path: "/config_dump",
    query: "?include_eds&resource=…&mask=…&name_regex=…",
    help: "the configuration in force, secrets redacted",
    answer: configDumpPage,
  },
  { path: "/stats", query: "?filter=…&usedonly&type=…&format=json", help: "Envoy's statistics", answer: stats },
  {
    path: "/stats/prometheus",
    query: "?filter=…&usedonly",
    help: "Istio's metrics and Envoy's statistics for Prometheus",
    answer: prometheus,
  },
  {
    path: "/metrics",
    help: "Istio's metrics alone; as OpenMetrics with exemplars where accepted",
    answer: metricsPage,
  },
  { path: "/memory", help: "bytes in use", answer: memory },
  { path: "/logging", query: "?level=debug", help: "shows or sets the log level", changes: true, answer: logging },
  {
    path: "/healthcheck/fail",
    help: "/ready answers 503 from now on",
    changes: true,
    answer: ({ view }) => setHealthy(view, false),
  },
  { path: "/healthcheck/ok", help: "takes that back", changes: true, answer: ({ view }) => setHealthy(view, true) },
  {
    path: "/drain_listeners",
    help: "stops accepting; connections end with their next answer",
    changes: true,
    answer: ({ view }) => {
      view.drain();
      return text("OK\n");
    },
  },
  {
    path: "/quitquitquit",
    help: "ends the process; requests in flight get a second",
    changes: true,
    answer: ({ view }) => {
      view.clock.after(quitAfterMs, () => view.settings.standalone!.quit());
      return text("OK\n");
    },
  },
];

export function helpText(): string {
  const rows = pages.map(({ path, query = "", help, changes }) => [`${changes ? "POST " : ""}${path}${query}`, help]);
  const width = Math.max(...rows.map(([what]) => what!.length));
  return `admin commands are:\n${rows.map(([what, help]) => `  ${what!.padEnd(width)}  ${help}\n`).join("")}`;
}
