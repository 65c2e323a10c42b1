// tracing of Telemetry and MeshConfig → how one side of a workload makes spans and where it sends them. Pure.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { OpenTelemetryConfigSchema } from "#gen/xds/envoy/config/trace/v3/opentelemetry_pb.js";
import {
  ZipkinConfigSchema,
  ZipkinConfig_CollectorEndpointVersion as ZipkinVersion,
} from "#gen/xds/envoy/config/trace/v3/zipkin_pb.js";
import {
  type HttpConnectionManager_Tracing as Tracing,
  HttpConnectionManager_TracingSchema as TracingSchema,
} from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { CustomTagSchema } from "#gen/xds/envoy/type/tracing/v3/custom_tag_pb.js";
import { parseDurationMs } from "../api/duration.ts";
import type { TelemetrySpec, TracingRule } from "../api/telemetry.ts";
import { durationOf, pack } from "./envoy.ts";
import { type Direction, isAbout } from "./telemetry-levels.ts";
import { type Collector, collectorOf, defaultTracing, withLegacyZipkin } from "./telemetry-providers.ts";
import { outboundName } from "./translate-clusters.ts";
import type { Model } from "./types.ts";

/** Istio: one request in a hundred, unless MeshConfig or a Telemetry says something else. */
const samplingDefault = 1;
const exportTimeoutMs = 10_000;

type TagInit = MessageInitShape<typeof CustomTagSchema>;

interface Wanted {
  provider: string | undefined;
  disabled: boolean;
  sampling: number;
  tags: NonNullable<TracingRule["customTags"]>;
}

/** Each level says what differs from the one above; tags are replaced as a whole (Istio: Telemetries.Tracing). */
export function tracingOf(
  given: Model,
  levels: readonly TelemetrySpec[],
  direction: Direction,
): { tracing: Tracing; key: string } | undefined {
  const model = withLegacyZipkin(given);
  const wanted: Wanted = {
    provider: defaultTracing(model),
    disabled: false,
    sampling: model.settings.defaultConfig?.tracing?.sampling ?? samplingDefault,
    tags: {},
  };
  for (const { tracing = [] } of levels)
    for (const rule of tracing) {
      if (!isAbout(rule.match?.mode, direction)) continue;
      wanted.provider = rule.providers?.[0]?.name ?? wanted.provider;
      wanted.disabled = rule.disableSpanReporting ?? wanted.disabled;
      wanted.sampling = rule.randomSamplingPercentage ?? wanted.sampling;
      wanted.tags = rule.customTags ?? wanted.tags;
    }
  if (wanted.provider === undefined || wanted.disabled) return undefined;
  const collector = collectorOf(model, wanted.provider);
  if (typeof collector === "string") return undefined;
  const tracing = create(TracingSchema, {
    clientSampling: { value: 100 },
    randomSampling: { value: wanted.sampling },
    overallSampling: { value: 100 },
    ...providerOf(collector),
    customTags: Object.entries(wanted.tags)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([name, source]) => tagOf(name, source as TagSource) ?? []),
  });
  return { tracing, key: JSON.stringify([wanted, collector.service.host, collector.port]) };
}

function providerOf(
  collector: Collector,
): Pick<MessageInitShape<typeof TracingSchema>, "provider" | "maxPathTagLength"> {
  const { service, port, host, zipkin, opentelemetry } = collector;
  const cluster = outboundName(port, "", service.host);
  const maxPathTagLength = (zipkin ?? opentelemetry)?.maxTagLength;
  const limit = maxPathTagLength === undefined ? {} : { maxPathTagLength };
  const named = (name: string, value: Any) => ({
    provider: { name, configType: { case: "typedConfig", value } as const },
    ...limit,
  });
  if (zipkin)
    return named(
      "envoy.tracers.zipkin",
      pack(ZipkinConfigSchema, {
        collectorCluster: cluster,
        collectorEndpoint: zipkin.path || "/api/v2/spans",
        collectorEndpointVersion: ZipkinVersion.HTTP_JSON,
        collectorHostname: host,
        traceId128bit: !zipkin.enable64bitTraceId,
        sharedSpanContext: false,
      }),
    );
  const http = opentelemetry?.http;
  if (http === undefined)
    return named(
      "envoy.tracers.opentelemetry",
      pack(OpenTelemetryConfigSchema, {
        grpcService: { targetSpecifier: { case: "envoyGrpc", value: { clusterName: cluster, authority: host } } },
      }),
    );
  const timeoutMs = parseDurationMs(http.timeout ?? "") ?? exportTimeoutMs;
  const path = http.path.startsWith("/") ? http.path : `/${http.path}`;
  return named(
    "envoy.tracers.opentelemetry",
    pack(OpenTelemetryConfigSchema, {
      httpService: {
        httpUri: {
          uri: `http://${host}:${port}${path}`,
          httpUpstreamType: { case: "cluster", value: cluster },
          timeout: durationOf(timeoutMs),
        },
        requestHeadersToAdd: (http.headers ?? []).map(({ name, value = "" }) => ({ header: { key: name, value } })),
      },
    }),
  );
}

interface TagSource {
  literal?: { value: string };
  environment?: { name: string; defaultValue?: string };
  header?: { name: string; defaultValue?: string };
  formatter?: { value: string };
}

/** Undefined for a formatter, which the proxy does not know. */
export function tagOf(tag: string, { literal, environment, header }: TagSource): TagInit | undefined {
  if (literal) return { tag, type: { case: "literal", value: { value: literal.value } } };
  if (environment) {
    const { name, defaultValue = "" } = environment;
    return { tag, type: { case: "environment", value: { name, defaultValue } } };
  }
  if (!header) return undefined;
  const { name, defaultValue = "" } = header;
  return { tag, type: { case: "requestHeader", value: { name, defaultValue } } };
}
