// The explicit list of HTTP filters. A filter's module is loaded when a configuration first names it; what is not listed is refused (NACK).

import type { Any } from "@bufbuild/protobuf/wkt";
import { type CorsPolicy, FilterConfigSchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import type { HttpFilter } from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { typeName, unpack } from "../compile/any.ts";
import type { Filter, FilterDeps, FilterFactory } from "../filter.ts";

interface Row {
  /** Message types: in the chain, and on a route. */
  config: string;
  perRoute: string;
  load(): unknown;
}

const http = "envoy.extensions.filters.http";

/** In no particular order: a chain runs its filters as http_filters lists them. */
const rows: readonly Row[] = [
  {
    // Delays and aborts, for experiments.
    config: `${http}.fault.v3.HTTPFault`,
    perRoute: `${http}.fault.v3.HTTPFault`,
    load: () => (require("./fault.ts") as typeof import("./fault.ts")).faultFactory,
  },
  {
    // Which pages of other origins may call.
    config: `${http}.cors.v3.Cors`,
    perRoute: "envoy.config.route.v3.CorsPolicy",
    load: () => (require("./cors.ts") as typeof import("./cors.ts")).corsFactory,
  },
  {
    // Who the end user is.
    config: `${http}.jwt_authn.v3.JwtAuthentication`,
    perRoute: `${http}.jwt_authn.v3.PerRouteConfig`,
    load: () => (require("./jwt.ts") as typeof import("./jwt.ts")).jwtFactory,
  },
  {
    // Who may do what.
    config: `${http}.rbac.v3.RBAC`,
    perRoute: `${http}.rbac.v3.RBACPerRoute`,
    load: () => (require("./rbac.ts") as typeof import("./rbac.ts")).rbacFactory,
  },
  {
    // What a service says who may.
    config: `${http}.ext_authz.v3.ExtAuthz`,
    perRoute: `${http}.ext_authz.v3.ExtAuthzPerRoute`,
    load: () => (require("./ext_authz.ts") as typeof import("./ext_authz.ts")).extAuthzFactory,
  },
  {
    // How often.
    config: `${http}.local_ratelimit.v3.LocalRateLimit`,
    perRoute: `${http}.local_ratelimit.v3.LocalRateLimit`,
    load: () => (require("./local_ratelimit.ts") as typeof import("./local_ratelimit.ts")).localRateLimitFactory,
  },
  {
    // Smaller answers, where somebody asks for them.
    config: `${http}.compressor.v3.Compressor`,
    perRoute: `${http}.compressor.v3.CompressorPerRoute`,
    load: () => (require("./compressor.ts") as typeof import("./compressor.ts")).compressorFactory,
  },
  {
    // Fields set and removed, in order.
    config: `${http}.header_mutation.v3.HeaderMutation`,
    perRoute: `${http}.header_mutation.v3.HeaderMutationPerRoute`,
    load: () => (require("./header_mutation.ts") as typeof import("./header_mutation.ts")).headerMutationFactory,
  },
  {
    // Labels for what comes after.
    config: `${http}.set_metadata.v3.Config`,
    perRoute: `${http}.set_metadata.v3.Config`,
    load: () => (require("./set_metadata.ts") as typeof import("./set_metadata.ts")).setMetadataFactory,
  },
  {
    // Whether this proxy is there.
    config: `${http}.health_check.v3.HealthCheck`,
    perRoute: `${http}.health_check.v3.HealthCheck`,
    load: () => (require("./health_check.ts") as typeof import("./health_check.ts")).healthCheckFactory,
  },
];

/** The router ends every chain and is the forwarding itself. */
const routerType = `${http}.router.v3.Router`;

/**
 * Filters that Istio puts into every chain and whose work is done elsewhere, by name or type: metrics with their configuration
 * (istio.stats: telemetry/options.ts), the peer's workload (peer_metadata, metadata_exchange: the tunnel's baggage and the certificate),
 * counts of gRPC messages (grpc_stats: none), and ALPN towards the upstream (istio.alpn: by the cluster's own options).
 */
const builtIn: ReadonlySet<string> = new Set([
  "istio.stats",
  "istio.metadata_exchange",
  "istio.alpn",
  "envoy.filters.http.peer_metadata",
  "io.istio.http.peer_metadata.Config",
  "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
  `${http}.grpc_stats.v3.FilterConfig`,
]);

const loaded = (row: Row): FilterFactory => row.load() as FilterFactory;

export function compileFilters(filters: readonly HttpFilter[], deps: FilterDeps): Filter[] {
  const chain: Filter[] = [];
  for (const { name, configType, isOptional, disabled } of filters) {
    const config = configType.case === "typedConfig" ? configType.value : undefined;
    const type = config && typeName(config);
    if (type === routerType || builtIn.has(name) || builtIn.has(type ?? "")) continue;
    const row = rows.find((entry) => entry.config === type);
    if (config && row) {
      const factory = loaded(row);
      const filter = factory.create(name, unpack(config, factory.config)!, deps);
      chain.push(disabled ? onlyWhereConfigured(filter) : filter);
    } else if (!isOptional)
      throw new MeshbedError(
        "FILTER_UNSUPPORTED",
        `HTTP filter ${name} (${type ?? "no typed config"}) is not supported`,
      );
  }
  return chain;
}

/** HttpFilter.disabled: the filter runs only on routes that have settings for it. */
function onlyWhereConfigured(filter: Filter): Filter {
  const { name } = filter;
  return {
    name,
    onRequest: (request) => (request.settings(name) === undefined ? "continue" : filter.onRequest(request)),
    ...(filter.onResponse && {
      onResponse: (request, response) => {
        if (request.settings(name) !== undefined) filter.onResponse!(request, response);
      },
    }),
  };
}

export interface FilterSettings {
  settings: ReadonlyMap<string, unknown>;
  /** Filters that are switched off; undefined for none. */
  off: ReadonlySet<string> | undefined;
}

/** Per-route settings by filter name, from the outermost level to the route; the innermost wins. */
export function compileFilterSettings(...levels: readonly Readonly<Record<string, Any>>[]): FilterSettings {
  const settings = new Map<string, unknown>();
  const off = new Set<string>();
  for (const level of levels)
    for (const [name, outer] of Object.entries(level)) {
      const wrapper = unpack(outer, FilterConfigSchema);
      off.delete(name);
      if (wrapper?.disabled) off.add(name);
      const any = wrapper ? wrapper.config : outer;
      if (any === undefined) continue;
      const row = rows.find(({ perRoute }) => perRoute === typeName(any));
      if (row) {
        const factory = loaded(row);
        settings.set(name, factory.settings(unpack(any, factory.perRoute)!, settings.get(name)));
      } else if (!wrapper?.isOptional)
        throw new MeshbedError("FILTER_UNSUPPORTED", `route settings of ${name} (${typeName(any)}) are not supported`);
    }
  return { settings, off: off.size === 0 ? undefined : off };
}

/** The deprecated cors fields of virtual host and route, outermost first; undefined when no level has one. */
export function compileCorsFields(...policies: readonly (CorsPolicy | undefined)[]): unknown {
  const row = rows.find(({ perRoute }) => perRoute === "envoy.config.route.v3.CorsPolicy")!;
  let settings: unknown;
  for (const policy of policies) if (policy) settings = loaded(row).settings(policy, settings);
  return settings;
}
