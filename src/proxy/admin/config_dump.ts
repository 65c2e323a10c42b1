// /config_dump: the configuration in force, in the JSON form of Envoy's admin.v3.ConfigDump. Private keys and passwords never leave.

import {
  createRegistry,
  type DescMessage,
  type JsonObject,
  type JsonValue,
  type Message,
  toJson,
} from "@bufbuild/protobuf";
import { type Cluster, ClusterSchema } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import {
  type ClusterLoadAssignment,
  ClusterLoadAssignmentSchema,
} from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { type Listener, ListenerSchema } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import { RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { HttpConnectionManagerSchema } from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { SecretSchema } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { files } from "#gen/xds/extensions.js";
import { messageOf } from "../../kernel/errors.ts";
import { typeUrls } from "../../xds/types.ts";
import type { Accepted, AcceptedResources } from "../accepted.ts";
import { unpack } from "../compile/any.ts";

export interface DumpOptions {
  /** The configuration is a file's: "static" in Envoy's words. With what stands in it beside the resources. */
  bootstrap: { schema: DescMessage; message: Message; readAtMs: number } | undefined;
  includeEds: boolean;
  /** Only resources whose name it accepts. */
  wantsName(name: string): boolean;
}

const registry = createRegistry(...files);
const typeOf = (name: string): string => `type.googleapis.com/envoy.admin.v3.${name}`;
const timeText = (ms: number): string => new Date(ms).toISOString();

interface Entry {
  name: string;
  version: string;
  updatedAtMs: number;
  json: JsonObject;
}

/** The elements of ConfigDump.configs, in Envoy's order. */
export function configDump(accepted: AcceptedResources, options: DumpOptions): JsonObject[] {
  const { bootstrap, includeEds, wantsName } = options;
  const entries = (all: Iterable<[string, Accepted]>, schema: DescMessage): Entry[] =>
    [...all]
      .filter(([name]) => wantsName(name))
      .map(([name, { message, version, updatedAtMs }]) => ({
        name,
        version,
        updatedAtMs,
        json: anyJson(schema, message),
      }));
  const listeners = accepted.of(typeUrls.listener);
  const clusters = accepted.of(typeUrls.cluster);
  const shape = bootstrap ? staticShape : dynamicShape;
  const dump: JsonObject[] = [];
  if (bootstrap)
    dump.push({
      "@type": typeOf("BootstrapConfigDump"),
      bootstrap: redacted(messageJson(bootstrap.schema, bootstrap.message)) as JsonObject,
      last_updated: timeText(bootstrap.readAtMs),
    });
  dump.push({ "@type": typeOf("ClustersConfigDump"), ...shape.clusters(entries(clusters, ClusterSchema)) });
  if (includeEds)
    dump.push({
      "@type": typeOf("EndpointsConfigDump"),
      static_endpoint_configs: entries(inlineAssignments(clusters), ClusterLoadAssignmentSchema).map((entry) => ({
        endpoint_config: entry.json,
        last_updated: timeText(entry.updatedAtMs),
      })),
      dynamic_endpoint_configs: entries(accepted.of(typeUrls.endpoint), ClusterLoadAssignmentSchema).map((entry) =>
        dynamicEntry("endpoint_config", entry),
      ),
    });
  dump.push({ "@type": typeOf("ListenersConfigDump"), ...shape.listeners(entries(listeners, ListenerSchema)) });
  dump.push({
    "@type": typeOf("RoutesConfigDump"),
    static_route_configs: entries(inlineRoutes(listeners), RouteConfigurationSchema).map((entry) => ({
      route_config: entry.json,
      last_updated: timeText(entry.updatedAtMs),
    })),
    dynamic_route_configs: entries(accepted.of(typeUrls.route), RouteConfigurationSchema).map((entry) =>
      dynamicEntry("route_config", entry),
    ),
  });
  dump.push({
    "@type": typeOf("SecretsConfigDump"),
    ...shape.secrets(entries(accepted.of(typeUrls.secret), SecretSchema)),
  });
  return dump;
}

const dynamicEntry = (field: string, { version, json, updatedAtMs }: Entry): JsonObject => ({
  version_info: version,
  [field]: json,
  last_updated: timeText(updatedAtMs),
  client_status: "ACKED",
});
const newest = (entries: readonly Entry[]): string =>
  entries.reduce((latest, entry) => (entry.updatedAtMs > latest.updatedAtMs ? entry : latest), {
    version: "",
    updatedAtMs: 0,
  }).version;

/** How resources from a file and from a control plane are told apart. */
const staticShape = {
  clusters: (entries: Entry[]): JsonObject => ({
    static_clusters: entries.map(({ json, updatedAtMs }) => ({ cluster: json, last_updated: timeText(updatedAtMs) })),
  }),
  listeners: (entries: Entry[]): JsonObject => ({
    static_listeners: entries.map(({ json, updatedAtMs }) => ({ listener: json, last_updated: timeText(updatedAtMs) })),
  }),
  secrets: (entries: Entry[]): JsonObject => ({
    static_secrets: entries.map(({ name, json, updatedAtMs }) => ({
      name,
      last_updated: timeText(updatedAtMs),
      secret: json,
    })),
  }),
};
const dynamicShape = {
  clusters: (entries: Entry[]): JsonObject => ({
    version_info: newest(entries),
    dynamic_active_clusters: entries.map((entry) => dynamicEntry("cluster", entry)),
  }),
  listeners: (entries: Entry[]): JsonObject => ({
    version_info: newest(entries),
    dynamic_listeners: entries.map(({ name, version, json, updatedAtMs }) => ({
      name,
      active_state: { version_info: version, listener: json, last_updated: timeText(updatedAtMs) },
      client_status: "ACKED",
    })),
  }),
  secrets: (entries: Entry[]): JsonObject => ({
    dynamic_active_secrets: entries.map((entry) => ({ name: entry.name, ...dynamicEntry("secret", entry) })),
  }),
};

/** Route configurations that stand in listeners. */
function* inlineRoutes(listeners: ReadonlyMap<string, Accepted>): Iterable<[string, Accepted]> {
  for (const accepted of listeners.values()) {
    const { filterChains, defaultFilterChain } = accepted.message as Listener;
    for (const { filters } of defaultFilterChain ? [...filterChains, defaultFilterChain] : filterChains)
      for (const { configType } of filters) {
        const manager =
          configType.case === "typedConfig" ? unpack(configType.value, HttpConnectionManagerSchema) : undefined;
        if (manager?.routeSpecifier.case === "routeConfig")
          yield [manager.routeSpecifier.value.name, { ...accepted, message: manager.routeSpecifier.value }];
      }
  }
}

function* inlineAssignments(clusters: ReadonlyMap<string, Accepted>): Iterable<[string, Accepted]> {
  for (const [name, accepted] of clusters) {
    const assignment: ClusterLoadAssignment | undefined = (accepted.message as Cluster).loadAssignment;
    if (assignment) yield [name, { ...accepted, message: assignment }];
  }
}

// ---- JSON ----

function messageJson(schema: DescMessage, message: Message): JsonObject {
  try {
    return toJson(schema, message, { registry, useProtoFieldName: true }) as JsonObject;
  } catch (error) {
    return { error: `cannot be shown: ${messageOf(error)}` };
  }
}

const anyJson = (schema: DescMessage, message: Message): JsonObject => ({
  "@type": `type.googleapis.com/${schema.typeName}`,
  ...(redacted(messageJson(schema, message)) as JsonObject),
});

/** Fields that Envoy marks as sensitive: every text below them is hidden. */
const sensitive = new Set([
  "private_key",
  "private_key_provider",
  "pkcs12",
  "password",
  "session_ticket_keys",
  "generic_secret",
  "inline_key",
]);
const hidden = "[redacted]";

function redacted(value: JsonValue, hide = false): JsonValue {
  if (Array.isArray(value)) return value.map((item) => redacted(item, hide));
  if (typeof value !== "object" || value === null) return hide && typeof value === "string" ? hidden : value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => {
      if (hide && key === "inline_bytes") return [key, btoa(hidden)];
      return [key, redacted(item, hide || sensitive.has(key))];
    }),
  );
}

// ---- selection ----

/** `?resource=dynamic_listeners`: the elements of that list alone, typed. Undefined: no such list. */
export function selectResource(dump: readonly JsonObject[], resource: string): JsonObject[] | undefined {
  const owner = dump.find((config) => Array.isArray(config[resource]));
  if (!owner) return undefined;
  const type = elementTypes[resource];
  return (owner[resource] as JsonObject[]).map((element) => ({
    ...(type && { "@type": `${owner["@type"]}.${type}` }),
    ...element,
  }));
}

const elementTypes: Record<string, string> = {
  static_listeners: "StaticListener",
  dynamic_listeners: "DynamicListener",
  static_clusters: "StaticCluster",
  dynamic_active_clusters: "DynamicCluster",
  static_route_configs: "StaticRouteConfig",
  dynamic_route_configs: "DynamicRouteConfig",
  static_endpoint_configs: "StaticEndpointConfig",
  dynamic_endpoint_configs: "DynamicEndpointConfig",
  static_secrets: "StaticSecret",
  dynamic_active_secrets: "DynamicSecret",
};

/** A field mask ("listener.name,last_updated") applied to each element; those it leaves nothing of are dropped. */
export function applyMask(configs: readonly JsonObject[], mask: string): JsonObject[] {
  const paths = mask.split(",").map((path) => path.trim().split("."));
  return configs.flatMap((config) => {
    const kept: JsonObject = {};
    for (const path of paths) copyPath(config, kept, path);
    return Object.keys(kept).length === 0 ? [] : [{ ...("@type" in config && { "@type": config["@type"]! }), ...kept }];
  });
}

function copyPath(from: JsonObject, to: JsonObject, [key, ...rest]: readonly string[]): void {
  const value = key === undefined ? undefined : from[key];
  if (key === undefined || value === undefined) return;
  if (rest.length === 0) to[key] = value;
  else if (Array.isArray(value))
    to[key] = value.map((item) => {
      const part: JsonObject = {};
      copyPath(item as JsonObject, part, rest);
      return part;
    });
  else if (typeof value === "object" && value !== null) {
    const part = (to[key] ?? {}) as JsonObject;
    copyPath(value, part, rest);
    if (Object.keys(part).length > 0) to[key] = part;
  }
}
