// What `meshbed up` shows: steps with their durations, the table of URLs, then one live line. Events in, text out.

import type { ClusterConfig } from "../cluster/config.ts";
import type { ClusterEvent } from "../cluster/events.ts";
import type { Clock } from "../kernel/clock.ts";
import { urlRows } from "./status.ts";
import { formatMs, formatUptime, paint, type Terminal, table } from "./terminal.ts";

const spinner = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const liveMs = 200;

type Status = Extract<ClusterEvent, { type: "status" }>;

export class UpView {
  readonly #config: ClusterConfig;
  readonly #terminal: Terminal;
  readonly #clock: Clock;
  readonly #startedMs: number;
  readonly #stopLive: () => void;
  readonly #done = new Set<string>();
  #phase = "starting";
  #status: Status | undefined;
  #upSinceMs: number | undefined;
  #frame = 0;
  #stopping = false;

  constructor(config: ClusterConfig, terminal: Terminal, clock: Clock, startedMs: number) {
    this.#config = config;
    this.#terminal = terminal;
    this.#clock = clock;
    this.#startedMs = startedMs;
    this.#stopLive = clock.every(liveMs, () => this.#live());
  }

  start(): void {
    const { isolation, nodes, clients, linkBitsPerSecond } = this.#config;
    const workers = `${nodes.length - 1} worker${nodes.length === 2 ? "" : "s"}`;
    const machines = `1 master, ${workers}${clients.length > 0 ? `, ${clients.length} clients` : ""}`;
    const links = linkBitsPerSecond === undefined ? "" : `, links of ${linkBitsPerSecond / 1e6} Mbit/s`;
    this.#terminal.line(`${paint.bold("meshbed")} ${machines}${links}`);
    this.#terminal.line(`  ${paint.dim(`isolation: ${isolation.mode} (${isolation.reason})`)}`);
  }

  step(name: string, detail: string, ms: number): void {
    this.#done.add(name);
    this.#terminal.step(name, detail, ms);
  }

  #once(name: string, detail: string): void {
    if (!this.#done.has(name)) this.step(name, detail, this.#clock.monotonicMs() - this.#startedMs);
  }

  event(event: ClusterEvent): void {
    switch (event.type) {
      case "step":
        return this.step(event.name, event.detail, event.ms);
      case "api-ready":
        this.#phase = "waiting for nodes";
        return this.#once("control plane", "API server answers");
      case "manifests-applied":
        return this.#once(
          "manifests",
          `${event.created} created, ${event.configured} configured, ${event.unchanged} unchanged`,
        );
      case "status":
        return this.#onStatus(event);
      case "reached":
        return this.#onReached(event.url);
      case "restarted":
        return this.#terminal.line(
          `  ${paint.yellow("!")} ${event.component} ended (${event.reason}); ${event.afterMs > 0 ? `restarting in ${formatMs(event.afterMs)}` : "restarted"}`,
        );
      case "serving":
        return;
      case "failed":
        this.#terminal.line(`  ${paint.red("✗")} ${event.message}`);
        if (event.fix !== undefined) this.#terminal.line(`    ${paint.dim("fix:")} ${event.fix}`);
        return;
    }
  }

  #onStatus(status: Status): void {
    this.#status = status;
    const { nodes, pods } = status;
    if (nodes.total === this.#config.nodes.length && nodes.ready === nodes.total) {
      this.#once("nodes", `${nodes.ready} of ${nodes.total} ready`);
      this.#phase = "waiting for pods";
    }
    if (this.#done.has("manifests") && this.#done.has("nodes") && pods.total > 0 && pods.ready === pods.total)
      this.#once("pods", `${pods.ready} of ${pods.total} ready`);
  }

  #onReached(url: string): void {
    if (this.#config.bundledApplication) this.#once("gateway", `${url} answers`);
    this.#upSinceMs = this.#clock.monotonicMs();
    this.#terminal.line(`  ${paint.bold(`up in ${formatMs(this.#upSinceMs - this.#startedMs)}`)}\n`);
    for (const row of table(urlRows(this.#config))) this.#terminal.line(row);
    this.#terminal.line();
  }

  #live(): void {
    if (this.#stopping) return;
    const { nodes, pods, waiting } = this.#status ?? {
      nodes: { ready: 0, total: this.#config.nodes.length },
      pods: { ready: 0, total: 0 },
      waiting: [],
    };
    const counts = `nodes ${nodes.ready}/${nodes.total} · pods ${pods.ready}/${pods.total}`;
    const first = waiting[0];
    const note = first ? ` · ${first.pod} ${first.status}` : "";
    if (this.#upSinceMs === undefined) {
      this.#frame = (this.#frame + 1) % spinner.length;
      return this.#terminal.live(`  ${paint.cyan(spinner[this.#frame]!)} ${this.#phase} · ${counts}${paint.dim(note)}`);
    }
    const well = nodes.ready === nodes.total && pods.ready === pods.total;
    const dot = well ? paint.green("●") : paint.yellow("●");
    const uptime = formatUptime(this.#clock.monotonicMs() - this.#upSinceMs);
    this.#terminal.live(`  ${dot} up ${uptime} · ${counts}${paint.yellow(note)} · ${paint.dim("Ctrl-C stops")}`);
  }

  stopping(): void {
    this.#stopping = true;
    this.#terminal.settle();
    this.#terminal.line(`  ${paint.dim("stopping …")}`);
  }

  end(): void {
    this.#stopLive();
    this.#terminal.settle();
  }
}
