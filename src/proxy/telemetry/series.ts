// The series of Istio's standard metrics, shared by everything that counts under the same labels; bounded, and dropped when idle.

import { type Counter, type Histogram, type Labels, type Metrics, newHistogram } from "../../kernel/metrics.ts";
import type { Swept } from "../sweep.ts";
import type { MetricName, TelemetryOptions } from "./options.ts";

/** Label sets of requests, and of connections; more are counted together under the label overflow="true". */
export const labelSetsMax = 4_000;
/** Series nobody has counted in for this long are dropped: their peers have gone. */
export const seriesIdleMaxMs = 3_600_000;
const checkPeriodMs = 60_000;

/** Envoy's default histogram buckets, as Istio's proxies expose them. */
const bounds = [
  ...[0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000],
  ...[10000, 30000, 60000, 300000, 600000, 1800000, 3600000],
];

export interface RequestSeries {
  requests: Counter;
  duration: Histogram;
  requestBytes: Histogram;
  responseBytes: Histogram;
  /** Of gRPC. */
  requestMessages: Counter | undefined;
  responseMessages: Counter | undefined;
}
export interface TcpSeries {
  opened: Counter;
  closed: Counter;
  sentBytes: Counter;
  receivedBytes: Counter;
}

/** Told to look its series up again. */
export interface SeriesUser {
  forget(series: RequestSeries | TcpSeries): void;
}

interface Entry<T> {
  series: T;
  users: Set<SeriesUser>;
  /** Changes whenever something is counted. */
  reading: () => number;
  /** Connections are open: not idle, whatever the counts. */
  inUse: () => boolean;
  lastReading: number;
  sinceMs: number;
  remove: () => void;
}

const help: Record<MetricName, string> = {
  requests_total: "Requests by source, destination and outcome.",
  request_duration_milliseconds: "Time from the request's head to the response's end.",
  request_bytes: "Request sizes with head.",
  response_bytes: "Response sizes with head.",
  request_messages_total: "gRPC messages of clients.",
  response_messages_total: "gRPC messages of servers.",
  tcp_connections_opened_total: "Connections opened.",
  tcp_connections_closed_total: "Connections closed.",
  tcp_sent_bytes_total: "Bytes sent to the client.",
  tcp_received_bytes_total: "Bytes received from the client.",
};

export class SeriesRegistry implements Swept {
  readonly #metrics: Metrics;
  readonly #requests = new Map<string, Entry<RequestSeries>>();
  readonly #connections = new Map<string, Entry<TcpSeries>>();
  #checkedMs = 0;

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  requests(labels: Labels, options: TelemetryOptions, user: SeriesUser): RequestSeries {
    const create = (given: Labels): Entry<RequestSeries> => {
      const removals: (() => void)[] = [];
      const isGrpc = given["request_protocol"] === "grpc";
      const series = {
        requests: this.#counter("requests_total", given, options, removals),
        duration: this.#histogram("request_duration_milliseconds", given, options, removals),
        requestBytes: this.#histogram("request_bytes", given, options, removals),
        responseBytes: this.#histogram("response_bytes", given, options, removals),
        requestMessages: isGrpc ? this.#counter("request_messages_total", given, options, removals) : undefined,
        responseMessages: isGrpc ? this.#counter("response_messages_total", given, options, removals) : undefined,
      };
      return entryOf(
        series,
        () => series.requests.value,
        () => false,
        removals,
      );
    };
    return share(this.#requests, labels, options, user, create);
  }

  connections(labels: Labels, options: TelemetryOptions, user: SeriesUser): TcpSeries {
    const create = (given: Labels): Entry<TcpSeries> => {
      const removals: (() => void)[] = [];
      const series = {
        opened: this.#counter("tcp_connections_opened_total", given, options, removals),
        closed: this.#counter("tcp_connections_closed_total", given, options, removals),
        sentBytes: this.#counter("tcp_sent_bytes_total", given, options, removals),
        receivedBytes: this.#counter("tcp_received_bytes_total", given, options, removals),
      };
      return entryOf(
        series,
        () => series.opened.value,
        () => series.opened.value > series.closed.value,
        removals,
      );
    };
    return share(this.#connections, labels, options, user, create);
  }

  /** A dropped metric is counted where nobody looks, so that the hot path need not ask. */
  #counter(name: MetricName, labels: Labels, options: TelemetryOptions, removals: (() => void)[]): Counter {
    const given = labelsFor(name, labels, options);
    if (given === undefined) return { value: 0 };
    removals.push(() => this.#metrics.remove(`istio_${name}`, given));
    return this.#metrics.counter(`istio_${name}`, help[name], given);
  }
  #histogram(name: MetricName, labels: Labels, options: TelemetryOptions, removals: (() => void)[]): Histogram {
    const given = labelsFor(name, labels, options);
    if (given === undefined) return newHistogram(bounds);
    removals.push(() => this.#metrics.remove(`istio_${name}`, given));
    return this.#metrics.histogram(`istio_${name}`, help[name], bounds, given);
  }

  onTick(nowMs: number): void {
    if (nowMs - this.#checkedMs < checkPeriodMs) return;
    this.#checkedMs = nowMs;
    expire(this.#requests, nowMs);
    expire(this.#connections, nowMs);
  }
}

/** Undefined: the metric is not wanted. */
function labelsFor(name: MetricName, labels: Labels, { metrics }: TelemetryOptions): Labels | undefined {
  const options = metrics[name];
  if (options === undefined) return labels;
  if (options.drop) return undefined;
  const changed: Record<string, string> = { ...labels };
  for (const [label, value] of Object.entries(options.labels)) {
    if (value === undefined) delete changed[label];
    else changed[label] = value;
  }
  return changed;
}

function entryOf<T>(series: T, reading: () => number, inUse: () => boolean, removals: (() => void)[]): Entry<T> {
  const remove = (): void => {
    for (const one of removals) one();
  };
  return { series, users: new Set(), reading, inUse, lastReading: -1, sinceMs: 0, remove };
}

function share<T extends RequestSeries | TcpSeries>(
  entries: Map<string, Entry<T>>,
  labels: Labels,
  options: TelemetryOptions,
  user: SeriesUser,
  create: (labels: Labels) => Entry<T>,
): T {
  let given = labels;
  let key = `${options.key}${JSON.stringify(labels)}`;
  let entry = entries.get(key);
  if (entry === undefined && entries.size >= labelSetsMax) {
    given = { overflow: "true" };
    key = "overflow";
    entry = entries.get(key);
  }
  if (entry === undefined) {
    entry = create(given);
    entries.set(key, entry);
  }
  entry.users.add(user);
  return entry.series;
}

function expire<T extends RequestSeries | TcpSeries>(entries: Map<string, Entry<T>>, nowMs: number): void {
  for (const [key, entry] of entries) {
    const reading = entry.reading();
    if (reading !== entry.lastReading || entry.inUse()) {
      entry.lastReading = reading;
      entry.sinceMs = nowMs;
    } else if (nowMs - entry.sinceMs >= seriesIdleMaxMs) {
      entries.delete(key);
      entry.remove();
      for (const user of entry.users) user.forget(entry.series);
    }
  }
}
