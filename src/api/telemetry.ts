// The shape of Istio's Telemetry, with its oneofs as optional fields.

import type { Attached } from "./security.ts";

export interface ITelemetry {
  apiVersion?: string;
  kind?: string;
  metadata?: object;
  spec?: TelemetrySpec;
  status?: {
    conditions?: { type?: string; status?: string; reason?: string; message?: string }[];
    [field: string]: unknown;
  };
}

export interface TelemetrySpec extends Attached {
  accessLogging?: AccessLogging[];
  metrics?: MetricsRule[];
  tracing?: TracingRule[];
}

/** SERVER: the inbound side of a workload; CLIENT: its outbound side, and gateways. */
export type TelemetryMode = "CLIENT_AND_SERVER" | "CLIENT" | "SERVER";

interface Provided {
  match?: { mode?: TelemetryMode };
  providers?: { name: string }[];
}

export interface AccessLogging extends Provided {
  disabled?: boolean;
  /** CEL. */
  filter?: { expression?: string };
}

export interface MetricsRule {
  providers?: { name: string }[];
  overrides?: MetricOverride[];
  reportingInterval?: string;
}

export interface MetricOverride {
  match?: { metric?: string; customMetric?: string; mode?: TelemetryMode };
  disabled?: boolean;
  tagOverrides?: Record<string, { operation?: "UPSERT" | "REMOVE"; value?: string }>;
}

export interface TracingRule extends Provided {
  randomSamplingPercentage?: number;
  disableSpanReporting?: boolean;
  customTags?: Record<string, object>;
  enableIstioTags?: boolean;
  useRequestIdForTraceSampling?: boolean;
}
