// AuthorizationPolicies with action CUSTOM → whom their requests are asked about (Istio pilot/pkg/security/authz/builder/extauthz.go). Pure.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Duration } from "@bufbuild/protobuf/wkt";
import { ApiVersion } from "#gen/xds/envoy/config/core/v3/config_source_pb.js";
import type { Filter } from "#gen/xds/envoy/config/listener/v3/listener_components_pb.js";
import { RBAC_Action as Action } from "#gen/xds/envoy/config/rbac/v3/rbac_pb.js";
import { type ExtAuthz, ExtAuthzSchema } from "#gen/xds/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { RBACSchema as HttpRbacSchema } from "#gen/xds/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { type ListStringMatcher, ListStringMatcherSchema } from "#gen/xds/envoy/type/matcher/v3/string_pb.js";
import { parseDurationMs } from "../api/duration.ts";
import type { AuthorizationPolicy } from "../api/types.ts";
import { durationOf, pack } from "./envoy.ts";
import { type HttpFilter, httpFilter } from "./filters.ts";
import type { ExtAuthzGrpc, ExtAuthzHttp, ExtensionProvider } from "./mesh-settings.ts";
import { outboundName } from "./translate-clusters.ts";
import { stringMatch } from "./translate-security-match.ts";
import { networkRbacFilter, rbacOf } from "./translate-security-rbac.ts";
import { trustDomainsOf } from "./trust-domains.ts";
import type { Model, ServiceModel } from "./types.ts";

/** Istio's, where the provider says nothing. */
const timeoutDefaultMs = 600_000;

const isCustom = ({ spec }: AuthorizationPolicy): boolean => spec?.action === "CUSTOM";
const providerName = ({ spec }: AuthorizationPolicy): string => spec?.provider?.name ?? "";

/** Filters of an HTTP chain: rules that mark what is to be asked, and who is asked. Before anything else looks at the request. */
export function customHttp(model: Model, policies: readonly AuthorizationPolicy[]): HttpFilter[] {
  const byProvider = Map.groupBy(policies.filter(isCustom), providerName);
  return [...byProvider].flatMap(([name, own]) => {
    const provider = findProvider(model, name);
    if (typeof provider === "string") return [denyingHttp(model, own)];
    const shadowPrefix = `istio_ext_authz_${name}_`;
    const policyPrefix = `istio-ext-authz-${name}-`;
    const rules = rbacOf(own, Action.DENY, false, trustDomainsOf(model), (text) => policyPrefix + text);
    return [
      httpFilter(
        "envoy.filters.http.rbac",
        pack(HttpRbacSchema, { ...(rules && { shadowRules: rules, shadowRulesStatPrefix: shadowPrefix }) }),
      ),
      httpFilter(
        "envoy.filters.http.ext_authz",
        pack(ExtAuthzSchema, {
          ...checkOf(provider),
          filterEnabledMetadata: {
            filter: "envoy.filters.http.rbac",
            path: [{ segment: { case: "key", value: `${shadowPrefix}shadow_effective_policy_id` } }],
            value: {
              matchPattern: { case: "stringMatch", value: { matchPattern: { case: "prefix", value: policyPrefix } } },
            },
          },
        }),
      ),
    ];
  });
}

/** Of a TCP chain: nobody is asked about connections (in Istio, providers by gRPC are), so what the rules are about is denied. */
export function customNetwork(model: Model, policies: readonly AuthorizationPolicy[]): Filter[] {
  const byProvider = Map.groupBy(policies.filter(isCustom), providerName);
  return [...byProvider.values()].map((own) =>
    networkRbacFilter(rbacOf(own, Action.DENY, true, trustDomainsOf(model), badName(own))),
  );
}

const badName =
  (policies: readonly AuthorizationPolicy[]) =>
  (text: string): string =>
    `istio-ext-authz-${providerName(policies[0]!)}-${text}-deny-due-to-bad-CUSTOM-action`;

function denyingHttp(model: Model, policies: readonly AuthorizationPolicy[]): HttpFilter {
  const rules = rbacOf(policies, Action.DENY, false, trustDomainsOf(model), badName(policies));
  return httpFilter("envoy.filters.http.rbac", pack(HttpRbacSchema, { ...(rules && { rules }) }));
}

type CheckInit = Exclude<MessageInitShape<typeof ExtAuthzSchema>, ExtAuthz>;

interface Found {
  asked: (ExtAuthzHttp & { isHttp: true }) | (ExtAuthzGrpc & { isHttp: false });
  service: ServiceModel;
}

/** A string says why nobody can be asked. */
export function findProvider({ settings, serviceByHost }: Model, name: string): Found | string {
  const provider: ExtensionProvider | undefined = settings.extensionProviders?.find((each) => each.name === name);
  if (provider === undefined) return `MeshConfig has no extensionProvider "${name}"`;
  const { envoyExtAuthzHttp: http, envoyExtAuthzGrpc: grpc } = provider;
  const asked = http ? { ...http, isHttp: true as const } : grpc && { ...grpc, isHttp: false as const };
  if (asked === undefined) return `provider "${name}" authorizes nobody`;
  const host = asked.service.slice(asked.service.indexOf("/") + 1);
  const service = serviceByHost.get(host);
  if (!service?.ports.some(({ port }) => port === Number(asked.port)))
    return `provider "${name}": there is no service ${asked.service} with port ${asked.port}`;
  return { asked, service };
}

function checkOf({ asked, service }: Found): CheckInit {
  const cluster = outboundName(Number(asked.port), "", service.host);
  const timeout = durationOf(parseDurationMs(asked.timeout ?? "") || timeoutDefaultMs);
  return {
    ...(asked.isHttp
      ? httpServiceOf(asked, cluster, `http://${service.host}:${Number(asked.port)}`, timeout)
      : {
          services: {
            case: "grpcService",
            value: {
              targetSpecifier: { case: "envoyGrpc", value: { clusterName: cluster, authority: service.host } },
              timeout,
            },
          },
          transportApiVersion: ApiVersion.V3,
        }),
    failureModeAllow: asked.failOpen ?? false,
    clearRouteCache: asked.clearRouteCache ?? false,
    ...(asked.statusOnError && { statusOnError: { code: Number(asked.statusOnError) } }),
  };
}

function httpServiceOf(http: ExtAuthzHttp, cluster: string, uri: string, timeout: Duration): CheckInit {
  const added = Object.entries(http.includeAdditionalHeadersInCheck ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  const shown = [...(http.includeRequestHeadersInCheck ?? []), ...(http.includeHeadersInCheck ?? [])];
  return {
    services: {
      case: "httpService",
      value: {
        serverUri: { uri, httpUpstreamType: { case: "cluster", value: cluster }, timeout },
        pathPrefix: http.pathPrefix ?? "",
        authorizationRequest: { headersToAdd: added.map(([key, value]) => ({ key, value })) },
        authorizationResponse: {
          ...listed("allowedUpstreamHeaders", http.headersToUpstreamOnAllow),
          ...listed("allowedClientHeadersOnSuccess", http.headersToDownstreamOnAllow),
          ...listed("allowedClientHeaders", http.headersToDownstreamOnDeny),
        },
      },
    },
    ...listed("allowedHeaders", shown),
  };
}

/** Names of fields, which have no case; absent without any. */
function listed<K extends string>(field: K, names: readonly string[] | undefined): { [F in K]?: ListStringMatcher } {
  if (names === undefined || names.length === 0) return {};
  const patterns = names.map((name) => ({ ...stringMatch(name), ignoreCase: true }));
  return { [field]: create(ListStringMatcherSchema, { patterns }) } as { [F in K]?: ListStringMatcher };
}
