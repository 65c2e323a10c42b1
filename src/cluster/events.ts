// What the processes of a testbed tell each other and the person at the terminal: one JSON object a line.

import type { Balancer } from "./balancers.ts";

export interface Counts {
  ready: number;
  total: number;
}

export type ClusterEvent =
  /** A start-up step ended. */
  | { type: "step"; name: string; detail: string; ms: number }
  /** The API server answers. */
  | { type: "api-ready" }
  | { type: "manifests-applied"; created: number; configured: number; unchanged: number }
  | {
      type: "status";
      nodes: Counts;
      pods: Counts;
      /** Names of pods that are not ready, with kubectl's STATUS, at most ten. */
      waiting: { pod: string; status: string }[];
      /** Where ready gateway pods listen, "ip:port". */
      gateway: { http: string[]; https: string[] };
    }
  /** What this machine's loopback addresses lead to, all of it. */
  | { type: "balancers"; balancers: Balancer[] }
  /** The gateway (or, without one, every pod) answers; the testbed is up. */
  | { type: "reached"; url: string }
  /** From a process that takes over from another one: that one may go. */
  | { type: "serving" }
  | { type: "restarted"; component: string; reason: string; afterMs: number }
  | { type: "failed"; message: string; fix?: string };

export function emitEvent(event: ClusterEvent): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

const lineSizeBytesMax = 1024 * 1024;

/** Splits a byte stream into events; a line that is no event goes to `onText` (something printed to the same pipe). */
export class EventReader {
  readonly #decoder = new TextDecoder();
  readonly #onEvent: (event: ClusterEvent) => void;
  readonly #onText: (line: string) => void;
  #pending = "";

  constructor(onEvent: (event: ClusterEvent) => void, onText: (line: string) => void) {
    this.#onEvent = onEvent;
    this.#onText = onText;
  }

  push(chunk: Uint8Array): void {
    this.#pending += this.#decoder.decode(chunk, { stream: true });
    const lines = this.#pending.split("\n");
    this.#pending = lines.pop()!;
    if (this.#pending.length > lineSizeBytesMax) this.#pending = "";
    for (const line of lines) this.#take(line);
  }

  #take(line: string): void {
    if (line === "") return;
    if (!line.startsWith('{"type":')) return this.#onText(line);
    let event: ClusterEvent;
    try {
      event = JSON.parse(line) as ClusterEvent;
    } catch {
      return this.#onText(line);
    }
    this.#onEvent(event);
  }
}
