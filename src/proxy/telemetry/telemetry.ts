// Istio's standard metrics. The series of one (source, destination) pair are looked up once per response code and then incremented directly.

import { keepExemplar, observe } from "../../kernel/metrics.ts";
import { type ServiceIdentity, unknownService, type WorkloadIdentity } from "../clusters/cluster.ts";
import type { TelemetryOptions } from "./options.ts";
import type { RequestSeries, SeriesRegistry, SeriesUser, TcpSeries } from "./series.ts";

/** Different pairs of flags (or gRPC status) and code kept per edge; more share one series. */
const flaggedSeriesMax = 64;
/** Hosts told apart for a destination nobody names; more are "unknown". */
const hostsMax = 100;

export interface EdgeLabels {
  reporter: "source" | "destination";
  source: WorkloadIdentity;
  destination: WorkloadIdentity;
  service: ServiceIdentity;
  securityPolicy: "mutual_tls" | "none" | "unknown";
}

/** Istio's label order. */
function labelsOf(edge: EdgeLabels, protocol: string): Record<string, string> {
  const { source, destination, service } = edge;
  return {
    reporter: edge.reporter,
    source_workload: source.workload,
    source_canonical_service: source.canonicalService,
    source_canonical_revision: source.canonicalRevision,
    source_workload_namespace: source.namespace,
    source_principal: source.principal,
    source_app: source.canonicalService,
    source_version: source.canonicalRevision,
    source_cluster: source.cluster,
    destination_workload: destination.workload,
    destination_workload_namespace: destination.namespace,
    destination_principal: destination.principal,
    destination_app: destination.canonicalService,
    destination_version: destination.canonicalRevision,
    destination_service: service.host,
    destination_canonical_service: destination.canonicalService,
    destination_canonical_revision: destination.canonicalRevision,
    destination_service_name: service.name,
    destination_service_namespace: service.namespace,
    destination_cluster: destination.cluster,
    request_protocol: protocol,
    connection_security_policy: edge.securityPolicy,
  };
}

/** What a gRPC request came to. */
export interface GrpcOutcome {
  /** grpc-status; "" when there was none. */
  status: string;
  requestMessages: number;
  responseMessages: number;
}

/** The metrics of one direction between two workloads. */
export class EdgeStats implements SeriesUser {
  readonly #registry: SeriesRegistry;
  readonly #labels: EdgeLabels;
  readonly options: TelemetryOptions;
  readonly #onUnused: () => void;
  readonly #byCode: (RequestSeries | undefined)[] = [];
  readonly #flagged = new Map<string, RequestSeries>();
  #tcp: TcpSeries | undefined;
  #hosts: Map<string, EdgeStats> | undefined;

  /** Who the series name as destination. */
  get destination(): WorkloadIdentity {
    return this.#labels.destination;
  }

  /** `onUnused`: all of its series were idle and are gone; it may be used again all the same. */
  constructor(
    registry: SeriesRegistry,
    labels: EdgeLabels,
    options: TelemetryOptions,
    onUnused: () => void = () => {},
  ) {
    this.#registry = registry;
    this.#labels = labels;
    this.options = options;
    this.#onUnused = onUnused;
  }

  /**
   * `flags`: Envoy's response flags, "-" for none. Sizes include heads, as in Istio. `traceId`: of a sampled request, or "".
   * `grpc`: undefined for any other request.
   */
  request(
    code: number,
    flags: string,
    durationMs: number,
    requestBytes: number,
    responseBytes: number,
    traceId: string,
    grpc?: GrpcOutcome,
  ): void {
    let series: RequestSeries | undefined;
    if (grpc !== undefined) series = this.#flagged.get(`${code} ${flags} ${grpc.status}`);
    else series = flags === "-" ? this.#byCode[code] : this.#flagged.get(`${code} ${flags}`);
    if (series === undefined) series = this.#create(code, flags, grpc?.status);
    series.requests.value++;
    observe(series.duration, durationMs);
    observe(series.requestBytes, requestBytes);
    observe(series.responseBytes, responseBytes);
    if (grpc !== undefined && series.requestMessages !== undefined) {
      series.requestMessages.value += grpc.requestMessages;
      series.responseMessages!.value += grpc.responseMessages;
    }
    if (traceId === "" || !this.options.exemplars) return;
    keepExemplar(series.duration, durationMs, traceId);
    keepExemplar(series.requestBytes, requestBytes, traceId);
    keepExemplar(series.responseBytes, responseBytes, traceId);
  }

  #create(code: number, flags: string, grpc: string | undefined): RequestSeries {
    const full = this.#flagged.size >= flaggedSeriesMax;
    // A status is whatever the server says: told apart as long as there is room, as flags are.
    const labels = {
      ...labelsOf(this.#labels, grpc === undefined ? "http" : "grpc"),
      response_code: String(code),
      grpc_response_status: full ? "" : (grpc ?? ""),
      response_flags: full ? "overflow" : flags,
    };
    const series = this.#registry.requests(labels, this.options, this);
    if (flags === "-" && grpc === undefined) this.#byCode[code] = series;
    else if (!full) this.#flagged.set(grpc === undefined ? `${code} ${flags}` : `${code} ${flags} ${grpc}`, series);
    return series;
  }

  tcp(): TcpSeries {
    if (this.#tcp !== undefined) return this.#tcp;
    const labels = { ...labelsOf(this.#labels, "tcp"), response_flags: "-" };
    this.#tcp = this.#registry.connections(labels, this.options, this);
    return this.#tcp;
  }

  /** A connection that was refused before an endpoint was picked. `flags`: Envoy's response flags. */
  refused(flags: string): void {
    const labels = { ...labelsOf(this.#labels, "tcp"), response_flags: flags };
    const { opened, closed } = this.#registry.connections(labels, this.options, this);
    opened.value++;
    closed.value++;
  }

  /** The same edge, its destination named by a request's Host field; PassthroughCluster and BlackHoleCluster keep their names. */
  ofHost(host: string): EdgeStats {
    this.#hosts ??= new Map();
    let edge = this.#hosts.get(host);
    if (edge === undefined) {
      if (this.#hosts.size >= hostsMax) return this;
      const { service: unnamed } = this.#labels;
      const service = { ...unnamed, host, name: unnamed.name === unknownService.name ? host : unnamed.name };
      edge = new EdgeStats(this.#registry, { ...this.#labels, service }, this.options, () => this.#hosts!.delete(host));
      this.#hosts.set(host, edge);
    }
    return edge;
  }

  forget(series: RequestSeries | TcpSeries): void {
    if (this.#tcp === series) this.#tcp = undefined;
    for (const code in this.#byCode) if (this.#byCode[code] === series) delete this.#byCode[code];
    for (const [key, flagged] of this.#flagged) if (flagged === series) this.#flagged.delete(key);
    const isUsed = this.#tcp || this.#flagged.size > 0 || this.#byCode.some((one) => one !== undefined);
    if (!isUsed) this.#onUnused();
  }
}
