// Istio's standard metrics. The series of one (source, destination) pair are looked up once per response code and then incremented directly.

import { type Counter, type Histogram, type Labels, type Metrics, observe } from "../kernel/metrics.ts";
import type { ServiceIdentity, WorkloadIdentity } from "./cluster.ts";

/** Envoy's default histogram buckets in milliseconds, as Istio's proxies expose them. */
const durationBoundsMs = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
] as const;
const sizeBoundsBytes = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
] as const;

/** Different (flags, code) pairs kept per edge; more share one series. */
const flaggedSeriesMax = 64;

export interface EdgeLabels {
  reporter: "source" | "destination";
  source: WorkloadIdentity;
  destination: WorkloadIdentity;
  service: ServiceIdentity;
  securityPolicy: "mutual_tls" | "none" | "unknown";
}

interface RequestSeries {
  requests: Counter;
  duration: Histogram;
  requestBytes: Histogram;
  responseBytes: Histogram;
}

interface TcpSeries {
  opened: Counter;
  closed: Counter;
  sentBytes: Counter;
  receivedBytes: Counter;
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

/** The metrics of one direction between two workloads. */
export class EdgeStats {
  readonly #metrics: Metrics;
  readonly #labels: EdgeLabels;
  readonly #byCode: (RequestSeries | undefined)[] = [];
  readonly #flagged = new Map<string, RequestSeries>();
  #tcp: TcpSeries | undefined;

  /** Who the series name as destination. */
  get destination(): WorkloadIdentity {
    return this.#labels.destination;
  }

  constructor(metrics: Metrics, labels: EdgeLabels) {
    this.#metrics = metrics;
    this.#labels = labels;
  }

  /** `flags`: Envoy's response flags, "-" for none. Sizes include heads, as in Istio. */
  request(code: number, flags: string, durationMs: number, requestBytes: number, responseBytes: number): void {
    let series = flags === "-" ? this.#byCode[code] : this.#flagged.get(`${code} ${flags}`);
    if (series === undefined) series = this.#create(code, flags);
    series.requests.value++;
    observe(series.duration, durationMs);
    observe(series.requestBytes, requestBytes);
    observe(series.responseBytes, responseBytes);
  }

  #create(code: number, flags: string): RequestSeries {
    const full = this.#flagged.size >= flaggedSeriesMax;
    const labels: Labels = {
      ...labelsOf(this.#labels, "http"),
      response_code: String(code),
      grpc_response_status: "",
      response_flags: full ? "overflow" : flags,
    };
    const metrics = this.#metrics;
    const series: RequestSeries = {
      requests: metrics.counter("istio_requests_total", "Requests by source, destination and outcome.", labels),
      duration: metrics.histogram(
        "istio_request_duration_milliseconds",
        "Time from the request's head to the response's end.",
        durationBoundsMs,
        labels,
      ),
      requestBytes: metrics.histogram("istio_request_bytes", "Request sizes with head.", sizeBoundsBytes, labels),
      responseBytes: metrics.histogram("istio_response_bytes", "Response sizes with head.", sizeBoundsBytes, labels),
    };
    if (flags === "-") this.#byCode[code] = series;
    else if (!full) this.#flagged.set(`${code} ${flags}`, series);
    return series;
  }

  tcp(): TcpSeries {
    if (this.#tcp) return this.#tcp;
    const labels: Labels = { ...labelsOf(this.#labels, "tcp"), response_flags: "-" };
    const metrics = this.#metrics;
    this.#tcp = {
      opened: metrics.counter("istio_tcp_connections_opened_total", "Connections opened.", labels),
      closed: metrics.counter("istio_tcp_connections_closed_total", "Connections closed.", labels),
      sentBytes: metrics.counter("istio_tcp_sent_bytes_total", "Bytes sent to the client.", labels),
      receivedBytes: metrics.counter("istio_tcp_received_bytes_total", "Bytes received from the client.", labels),
    };
    return this.#tcp;
  }
}
