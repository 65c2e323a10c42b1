// Finished spans on their way to a collector: a bounded queue, sent in batches through a cluster of the proxy, tried twice.

import type { Cancel } from "../../kernel/clock.ts";
import { messageOf } from "../../kernel/errors.ts";
import { getOrAdd } from "../../kernel/map.ts";
import type { Counter } from "../../kernel/metrics.ts";
import type { Runtime } from "../chain.ts";
import type { FinishedSpan, SpanSink } from "./tracing.ts";

/** Waiting spans; more are dropped and counted. */
const queuedMax = 2_048;
/** A batch goes out when it is this large, or this old. */
const batchMax = 256;
const batchAgeMs = 1_000;
const retryAfterMs = 1_000;

/** Sends one batch; rejects when the collector did not take it. */
export type SendSpans = (spans: readonly FinishedSpan[]) => Promise<void>;

export class SpanExporter implements SpanSink {
  readonly #send: SendSpans;
  readonly #runtime: Runtime;
  readonly #collector: string;
  readonly #exported: Counter;
  readonly #dropped: Counter;
  #queue: FinishedSpan[] = [];
  #timer: Cancel | undefined;
  #sending = false;
  #closed = false;

  readonly #onClosed: () => void;

  constructor(send: SendSpans, collector: string, runtime: Runtime, onClosed: () => void = () => {}) {
    this.#onClosed = onClosed;
    this.#send = send;
    this.#runtime = runtime;
    this.#collector = collector;
    const { metrics } = runtime;
    this.#exported = metrics.counter("meshbed_spans_exported_total", "Spans a collector has taken.", { collector });
    this.#dropped = metrics.counter("meshbed_spans_dropped_total", "Spans that were not exported.", { collector });
  }

  add(span: FinishedSpan): void {
    if (this.#closed || this.#queue.length >= queuedMax) {
      this.#dropped.value++;
      return;
    }
    this.#queue.push(span);
    if (this.#queue.length >= batchMax) this.#flush();
    else this.#timer ??= this.#runtime.clock.after(batchAgeMs, () => this.#flush());
  }

  #flush(): void {
    this.#timer?.();
    this.#timer = undefined;
    if (this.#sending || this.#queue.length === 0) return;
    this.#sending = true;
    const batch = this.#queue.splice(0, batchMax);
    this.#deliver(batch).finally(() => {
      this.#sending = false;
      if (this.#closed && this.#queue.length === 0) this.#onClosed();
      else if (this.#queue.length >= batchMax || this.#closed) this.#flush();
      else if (this.#queue.length > 0) this.#timer ??= this.#runtime.clock.after(batchAgeMs, () => this.#flush());
    });
  }

  async #deliver(batch: readonly FinishedSpan[]): Promise<void> {
    const { clock, log } = this.#runtime;
    for (let attempt = 1; attempt <= 2; attempt++) {
      try {
        await this.#send(batch);
        this.#exported.value += batch.length;
        return;
      } catch (error) {
        const fields = { collector: this.#collector, spans: batch.length, attempt, error: messageOf(error) };
        log.debug("spans not taken", fields);
        if (attempt === 1 && !this.#closed) await clock.sleep(retryAfterMs);
      }
    }
    this.#dropped.value += batch.length;
  }

  /** Sends what is here; takes no more. */
  close(): void {
    this.#closed = true;
    this.#flush();
    if (!this.#sending) this.#onClosed();
  }
}

/** The exporters of one xDS node, by what they send where: chains with the same collector share one. */
export class SpanExporters {
  readonly #exporters = new Map<string, SpanExporter>();

  of(key: string, create: () => SpanExporter): SpanExporter {
    return getOrAdd(this.#exporters, key, create);
  }
  close(): void {
    for (const exporter of this.#exporters.values()) exporter.close();
    this.#exporters.clear();
  }
}
