// HTTP filter chains and routes with the settings that the mesh gives to gateways and sidecars, and telemetry as a case wants it.

import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import type { FilterChainSchema } from "#gen/xds/envoy/config/listener/v3/listener_components_pb.js";
import { OpenTelemetryConfigSchema } from "#gen/xds/envoy/config/trace/v3/opentelemetry_pb.js";
import { FileAccessLogSchema } from "#gen/xds/envoy/extensions/access_loggers/file/v3/file_pb.js";
import {
  type HttpConnectionManager,
  HttpConnectionManagerSchema,
} from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { TypedStructSchema } from "#gen/xds/udpa/type/v1/typed_struct_pb.js";
import { httpManager } from "../../src/mesh/filters.ts";
import { defaultRetryPolicy } from "../../src/mesh/translate-retries.ts";
import { pack, prefix } from "../../src/proxy/fixture.ts";
import type { TelemetryFacts } from "./child.ts";

type ChainInit = MessageInitShape<typeof FilterChainSchema>;

export const collectorCluster = "collector";

/** A request to a cluster, with Istio's default retries. */
export const meshRoute = (path: string, cluster: string) => ({
  match: prefix(path),
  action: {
    case: "route",
    value: { clusterSpecifier: { case: "cluster", value: cluster }, retryPolicy: defaultRetryPolicy },
  } as const,
});

export function meshChain(
  routes: string,
  place: { edge: boolean; inbound?: boolean },
  chain: ChainInit = {},
  telemetry: TelemetryFacts = {},
): ChainInit {
  const { configType } = httpManager({ statPrefix: routes, routes, ...place });
  const manager = fromBinary(HttpConnectionManagerSchema, (configType.value as Any).value);
  addTelemetry(manager, telemetry);
  const value = pack(HttpConnectionManagerSchema, manager);
  return { filters: [{ name: "http", configType: { case: "typedConfig", value } }], ...chain };
}

const typed = (name: string, value: Any) => ({ name, configType: { case: "typedConfig", value } }) as const;

function addTelemetry(manager: HttpConnectionManager, { metrics, accessLog, tracedPercent }: TelemetryFacts): void {
  const more: MessageInitShape<typeof HttpConnectionManagerSchema> = {
    ...(metrics === false && { httpFilters: [typed("istio.stats", dropAllMetrics())] }),
    ...(accessLog !== undefined && { accessLog: [typed("file", pack(FileAccessLogSchema, { path: accessLog }))] }),
    ...(tracedPercent !== undefined && {
      tracing: { randomSampling: { value: tracedPercent }, provider: typed("otel", collector()) },
    }),
  };
  const { httpFilters, accessLog: logs, tracing } = create(HttpConnectionManagerSchema, more);
  manager.httpFilters.unshift(...httpFilters);
  manager.accessLog.push(...logs);
  if (tracing) manager.tracing = tracing;
}

function dropAllMetrics(): Any {
  const init = { typeUrl: "type.googleapis.com/stats.PluginConfig", value: { metrics: [{ drop: true }] } };
  const value = toBinary(TypedStructSchema, create(TypedStructSchema, init));
  return create(AnySchema, { typeUrl: `type.googleapis.com/${TypedStructSchema.typeName}`, value });
}

const collector = (): Any =>
  pack(OpenTelemetryConfigSchema, {
    serviceName: "gateway",
    httpService: {
      httpUri: {
        uri: "http://collector.test/v1/traces",
        httpUpstreamType: { case: "cluster", value: collectorCluster },
      },
    },
  });
