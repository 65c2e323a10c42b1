// HttpConnectionManager.tracing → how a chain makes, passes on and exports spans.

import type { GrpcService } from "#gen/xds/envoy/config/core/v3/grpc_service_pb.js";
import type { HttpService } from "#gen/xds/envoy/config/core/v3/http_service_pb.js";
import {
  type OpenTelemetryConfig,
  OpenTelemetryConfigSchema,
} from "#gen/xds/envoy/config/trace/v3/opentelemetry_pb.js";
import {
  type ZipkinConfig,
  ZipkinConfigSchema,
  ZipkinConfig_CollectorEndpointVersion as ZipkinVersion,
} from "#gen/xds/envoy/config/trace/v3/zipkin_pb.js";
import type { HttpConnectionManager_Tracing as TracingMessage } from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { CustomTag as CustomTagMessage } from "#gen/xds/envoy/type/tracing/v3/custom_tag_pb.js";
import type { Percent } from "#gen/xds/envoy/type/v3/percent_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import type { ChainOwner, Runtime } from "../chain.ts";
import type { ClusterSlot } from "../clusters/cluster.ts";
import { GrpcClient } from "../clusters/grpc_client.ts";
import { requestCluster } from "../clusters/request.ts";
import { durationMs, unpack } from "../compile/any.ts";
import { fieldAfter, type StreamInfo } from "../log/stream_info.ts";
import { encodeTraces } from "./otlp.ts";
import { type SendSpans, SpanExporter, type SpanExporters } from "./span_exporter.ts";
import type { CustomTag, Tracing } from "./tracing.ts";
import { encodeZipkin } from "./zipkin.ts";

export interface TracingContext {
  runtime: Runtime;
  owner: ChainOwner;
  exporters: SpanExporters;
  cluster(name: string): ClusterSlot;
}

/** Envoy's defaults. */
const pathCharsDefault = 256;
const collectorTimeoutMs = 5_000;
const answerBytesMax = 64 * 1024;
const exportPath = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/** Undefined without a provider: nothing is traced. `owner` names the listener in errors. */
export function compileTracing(
  message: TracingMessage | undefined,
  inbound: boolean,
  context: TracingContext,
  at: string,
): Tracing | undefined {
  const provider = message?.provider;
  if (message === undefined || provider === undefined) return undefined;
  const config = provider.configType.case === "typedConfig" ? provider.configType.value : undefined;
  const kind = inbound ? "server" : "client";
  const shared = {
    kind,
    clientSampling: shareOf(message.clientSampling),
    randomSampling: shareOf(message.randomSampling),
    overallSampling: shareOf(message.overallSampling),
    pathCharsMax: message.maxPathTagLength ?? pathCharsDefault,
    customTags: message.customTags.map((tag) => compileTag(tag, at)),
  } as const;
  const telemetry = config && unpack(config, OpenTelemetryConfigSchema);
  if (telemetry) {
    const alwaysOn = /always_on/.test(telemetry.sampler?.name ?? "");
    if (telemetry.sampler && !alwaysOn) throw unsupported(at, `sampler ${telemetry.sampler.name}`);
    const sink = exporterOf(telemetry, Buffer.from(config.value).toString("base64"), context, at);
    const sampling = alwaysOn ? { randomSampling: 1, overallSampling: 1 } : {};
    return { ...shared, ...sampling, sink, form: "w3c", sharesSpans: false, longIds: true };
  }
  const zipkin = config && unpack(config, ZipkinConfigSchema);
  if (zipkin) {
    const sink = zipkinExporter(zipkin, context, at);
    const sharesSpans = zipkin.sharedSpanContext ?? true;
    return { ...shared, sink, form: "b3", sharesSpans, longIds: zipkin.traceId128bit };
  }
  throw unsupported(at, `provider ${provider.name}`);
}

const unsupported = (at: string, what: string): MeshbedError =>
  new MeshbedError("TRACING_UNSUPPORTED", `${at}, tracing: ${what} is not supported`);

/** Absent: all. */
const shareOf = (percent: Percent | undefined): number =>
  percent === undefined ? 1 : Math.min(1, Math.max(0, percent.value / 100));

// ---- exporters ----

function exporterOf(config: OpenTelemetryConfig, key: string, context: TracingContext, at: string): SpanExporter {
  return context.exporters.of(key, () => {
    const { runtime, owner } = context;
    const resource = (): Record<string, string> => ({
      "service.name": config.serviceName || serviceNameOf(owner),
      "telemetry.sdk.name": "meshbed",
    });
    if (config.grpcService) return grpcExporter(config.grpcService, resource, context, at);
    if (!config.httpService) throw unsupported(at, "an exporter with neither grpc_service nor http_service");
    const { slot, post } = httpPost(config.httpService, context, at);
    return new SpanExporter(
      (spans) => post("application/x-protobuf", encodeTraces(spans, resource())),
      slot.name,
      runtime,
    );
  });
}

/** As Istio names services in traces. */
const serviceNameOf = ({ identity }: ChainOwner): string => `${identity.canonicalService}.${identity.namespace}`;

type Post = (contentType: string, body: Uint8Array) => Promise<void>;

function httpPost(service: HttpService, context: TracingContext, at: string): { slot: ClusterSlot; post: Post } {
  const uri = service.httpUri;
  const target = URL.canParse(uri?.uri ?? "") ? new URL(uri!.uri) : undefined;
  if (!target || uri?.httpUpstreamType.case !== "cluster") throw unsupported(at, "an http_uri without URL or cluster");
  const lines = service.requestHeadersToAdd.map(({ header }) => `${header?.key}: ${header?.value}\r\n`).join("");
  if (/[^\t\r\n\x20-\x7e\x80-\xff]/.test(lines)) throw unsupported(at, "a request header with control characters");
  const slot = context.cluster(uri.httpUpstreamType.value);
  const timeoutMs = durationMs(uri.timeout, collectorTimeoutMs) || collectorTimeoutMs;
  const place = { authority: target.host, path: `${target.pathname}${target.search}` };
  return { slot, post: poster(slot, place, lines, timeoutMs, context) };
}

function poster(
  slot: ClusterSlot,
  place: { authority: string; path: string },
  lines: string,
  timeoutMs: number,
  { runtime, owner }: TracingContext,
): Post {
  return async (contentType, body) => {
    const headers = `content-type: ${contentType}\r\n${lines}`;
    const request = {
      method: "POST",
      ...place,
      headers,
      body: Buffer.from(body),
      timeoutMs,
      bodyBytesMax: answerBytesMax,
    } as const;
    const { status } = await requestCluster(slot, request, owner.identity, runtime);
    if (status < 200 || status > 299)
      throw new MeshbedError("COLLECTOR_FAILED", `cluster ${slot.name}: it answered ${status}`);
  };
}

function grpcExporter(
  service: GrpcService,
  resource: () => Record<string, string>,
  context: TracingContext,
  at: string,
): SpanExporter {
  const target = service.targetSpecifier;
  if (target.case !== "envoyGrpc") throw unsupported(at, "a grpc_service other than envoy_grpc");
  const { runtime, owner } = context;
  const { clusterName, authority } = target.value;
  const slot = context.cluster(clusterName);
  const metadata = Object.fromEntries(service.initialMetadata.map(({ key, value }) => [key.toLowerCase(), value]));
  const timeoutMs = durationMs(service.timeout, collectorTimeoutMs) || collectorTimeoutMs;
  const method = { slot, authority: authority || clusterName, path: exportPath, metadata, timeoutMs };
  const collector = new GrpcClient(method, () => owner.identity, runtime);
  const send: SendSpans = async (spans) => {
    await collector.call(encodeTraces(spans, resource()));
  };
  return new SpanExporter(send, slot.name, runtime, () => collector.close());
}

function zipkinExporter(config: ZipkinConfig, context: TracingContext, at: string): SpanExporter {
  const { collectorCluster, collectorEndpoint, collectorHostname } = config;
  if (config.collectorEndpointVersion !== ZipkinVersion.HTTP_JSON)
    throw unsupported(at, `collector_endpoint_version ${ZipkinVersion[config.collectorEndpointVersion]}`);
  return context.exporters.of(`zipkin ${collectorCluster} ${collectorHostname} ${collectorEndpoint}`, () => {
    const slot = context.cluster(collectorCluster);
    const place = { authority: collectorHostname || collectorCluster, path: collectorEndpoint };
    const post = poster(slot, place, "", collectorTimeoutMs, context);
    const send: SendSpans = (spans) =>
      post("application/json", Buffer.from(encodeZipkin(spans, serviceNameOf(context.owner))));
    return new SpanExporter(send, slot.name, context.runtime);
  });
}

// ---- custom tags ----

function compileTag({ tag: name, type }: CustomTagMessage, at: string): CustomTag {
  switch (type.case) {
    case "literal": {
      const { value } = type.value;
      return { name, value: () => value };
    }
    case "environment": {
      const value = process.env[type.value.name] ?? type.value.defaultValue;
      return { name, value: () => value || undefined };
    }
    case "requestHeader": {
      const { defaultValue } = type.value;
      const field = type.value.name.toLowerCase();
      return {
        name,
        value: ({ request, requestEdits }) =>
          (request && fieldAfter(request.head, requestEdits, field)) ?? (defaultValue || undefined),
      };
    }
    case "metadata": {
      const { kind, metadataKey, defaultValue } = type.value;
      const root = roots[kind?.kind.case ?? "request"];
      if (!root) throw unsupported(at, `custom tag ${name}: ${kind?.kind.case} metadata`);
      const keys = (metadataKey?.path ?? []).map(({ segment }) => segment.value ?? "");
      return { name, value: (info) => textAt(root(info, metadataKey?.key ?? ""), keys) ?? (defaultValue || undefined) };
    }
    default:
      throw unsupported(at, `custom tag ${name} without a value`);
  }
}

const roots: Readonly<Record<string, (info: StreamInfo, namespace: string) => unknown>> = {
  request: ({ metadata }, namespace) => metadata?.get(namespace),
  cluster: ({ cluster }, namespace) => cluster?.current?.metadata?.[namespace],
  host: ({ endpoint }, namespace) => endpoint?.metadata?.[namespace],
};

function textAt(root: unknown, keys: readonly string[]): string | undefined {
  let value = root;
  for (const key of keys)
    value =
      typeof value === "object" && value !== null && Object.hasOwn(value, key)
        ? (value as Record<string, unknown>)[key]
        : undefined;
  if (value === undefined || value === null) return undefined;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
