// MeshConfig: what holds for the whole mesh, from ConfigMap `istio` in `istio-system`, key `mesh` (Istio: mesh.istio.io MeshConfig). Pure.

import { parse } from "yaml";
import { parseDurationMs } from "../api/duration.ts";
import type { ConfigMap } from "../api/types.ts";
import type { Problem, TrafficPolicy } from "./types.ts";

export const settingsName = "istio";
export const settingsNamespace = "istio-system";
const settingsKey = "mesh";

/** Which list of the mesh's objects a ConfigMap belongs to. */
export const listOfConfigMap = ({ namespace, name }: { namespace?: string; name: string }) =>
  namespace === settingsNamespace && name === settingsName ? "configMaps" : "caBundles";

/** The fields that are read, as Istio names them; what is absent has Istio's default where it is used. */
export interface MeshSettings {
  trustDomain?: string;
  trustDomainAliases?: string[];
  rootNamespace?: string;
  outboundTrafficPolicy?: { mode?: "ALLOW_ANY" | "REGISTRY_ONLY" };
  accessLogFile?: string;
  accessLogFormat?: string;
  accessLogEncoding?: "TEXT" | "JSON";
  enableTracing?: boolean;
  enableAutoMtls?: boolean;
  extensionProviders?: ExtensionProvider[];
  defaultProviders?: { metrics?: string[]; tracing?: string[]; accessLogging?: string[] };
  defaultConfig?: ProxySettings;
  localityLbSetting?: NonNullable<TrafficPolicy["loadBalancer"]>["localityLbSetting"];
  defaultHttpRetryPolicy?: { attempts?: number; perTryTimeout?: string; retryOn?: string };
  connectTimeout?: string;
  tcpKeepalive?: { interval?: string; probes?: number; time?: string };
  h2UpgradePolicy?: "DO_NOT_UPGRADE" | "UPGRADE";
  defaultServiceExportTo?: string[];
  defaultVirtualServiceExportTo?: string[];
  defaultDestinationRuleExportTo?: string[];
}

/** MeshConfig.ExtensionProvider: a name and one of these. */
export interface ExtensionProvider {
  name: string;
  envoyExtAuthzHttp?: ExtAuthzHttp;
  envoyExtAuthzGrpc?: ExtAuthzGrpc;
  zipkin?: { service: string; port: number; maxTagLength?: number; enable64bitTraceId?: boolean; path?: string };
  opentelemetry?: {
    service: string;
    port: number;
    maxTagLength?: number;
    http?: { path: string; timeout?: string; headers?: { name: string; value?: string }[] };
  };
  envoyFileAccessLog?: {
    path?: string;
    logFormat?: { text?: string; labels?: Record<string, unknown> };
    omitEmptyValues?: boolean;
  };
  prometheus?: Record<string, unknown>;
}

interface ExtAuthz {
  service: string;
  port: number;
  timeout?: string;
  failOpen?: boolean;
  clearRouteCache?: boolean;
  statusOnError?: string;
  includeRequestBodyInCheck?: { maxRequestBytes?: number; allowPartialMessage?: boolean; packAsBytes?: boolean };
}

export interface ExtAuthzHttp extends ExtAuthz {
  pathPrefix?: string;
  includeHeadersInCheck?: string[];
  includeRequestHeadersInCheck?: string[];
  includeAdditionalHeadersInCheck?: Record<string, string>;
  headersToUpstreamOnAllow?: string[];
  headersToDownstreamOnAllow?: string[];
  headersToDownstreamOnDeny?: string[];
}

export type ExtAuthzGrpc = ExtAuthz;

/** MeshConfig.defaultConfig (ProxyConfig), as far as it is read. */
export interface ProxySettings {
  gatewayTopology?: { numTrustedProxies?: number; forwardClientCertDetails?: string };
  tracing?: { sampling?: number; zipkin?: { address?: string } };
  proxyMetadata?: Record<string, string>;
}

/** A pod's annotation proxy.istio.io/config; undefined when it cannot be read. */
export function proxySettings(text: string): ProxySettings | undefined {
  try {
    const value: unknown = parse(text);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    // A pod's owner writes it; what is no YAML counts as absent.
    return undefined;
  }
}

const known: ReadonlySet<string> = new Set<keyof MeshSettings>([
  "trustDomain",
  "trustDomainAliases",
  "rootNamespace",
  "outboundTrafficPolicy",
  "accessLogFile",
  "accessLogFormat",
  "accessLogEncoding",
  "enableTracing",
  "enableAutoMtls",
  "extensionProviders",
  "defaultProviders",
  "defaultConfig",
  "localityLbSetting",
  "defaultHttpRetryPolicy",
  "connectTimeout",
  "tcpKeepalive",
  "h2UpgradePolicy",
  "defaultServiceExportTo",
  "defaultVirtualServiceExportTo",
  "defaultDestinationRuleExportTo",
]);

/** Shorter ones would be replaced more often than proxies can take them. */
const certificateLifetimeMinMs = 2_000;
const certificateTtl = "SECRET_TTL";

/** defaultConfig.proxyMetadata.SECRET_TTL (Istio): how long workload certificates live; undefined: not said, or not readable. */
export function certificateLifetimeMs({ defaultConfig }: MeshSettings): number | undefined {
  const text = defaultConfig?.proxyMetadata?.[certificateTtl];
  const lifetimeMs = text === undefined ? undefined : parseDurationMs(String(text));
  return lifetimeMs !== undefined && lifetimeMs >= certificateLifetimeMinMs ? lifetimeMs : undefined;
}

export interface ReadSettings {
  /** Undefined: the text is not readable; what held before holds on. */
  settings: MeshSettings | undefined;
  problems: readonly Problem[];
}

/** No ConfigMap: Istio's defaults. */
export function readSettings(configMap: ConfigMap | undefined): ReadSettings {
  const text = configMap?.data?.[settingsKey];
  if (configMap === undefined || text === undefined || text.trim() === "") return { settings: {}, problems: [] };
  const problem = (field: string, message: string): Problem => ({
    object: { ...configMap, apiVersion: "v1", kind: "ConfigMap" },
    reason: "NotCarriedOut",
    field,
    message: `${field}: ${message}`,
  });
  const path = `data.${settingsKey}`;
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    const message = error instanceof Error ? error.message.split("\n")[0] : String(error);
    return { settings: undefined, problems: [problem(path, `is not YAML: ${message}; it is not used`)] };
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return { settings: undefined, problems: [problem(path, "is no mapping of fields; it is not used")] };
  const settings = value as MeshSettings;
  const unread = Object.keys(value).filter((field) => !known.has(field));
  const problems = unread.map((field) => problem(`${path}.${field}`, "is not carried out"));
  if (settings.defaultConfig?.proxyMetadata?.[certificateTtl] !== undefined && !certificateLifetimeMs(settings))
    problems.push(
      problem(`${path}.defaultConfig.proxyMetadata.${certificateTtl}`, "is no duration of 2s or more; 24h holds"),
    );
  return { settings, problems };
}
