// RequestAuthentications → the JWT filter and the clusters its keys come through (Istio: convertToEnvoyJwtConfig). Pure.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type Cluster,
  ClusterSchema,
  Cluster_DiscoveryType as Discovery,
} from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { TransportSocketSchema } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import {
  JwtAuthenticationSchema,
  type JwtProvider,
  JwtProviderSchema,
  type JwtRequirementSchema,
} from "#gen/xds/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { SubjectAltNameMatcher_SanType as SanType } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { UpstreamTlsContextSchema } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { parseDurationMs } from "../api/duration.ts";
import type { JwtRule } from "../api/security.ts";
import type { RequestAuthentication } from "../api/types.ts";
import { durationOf, pack, tcpAddress } from "./envoy.ts";
import { type HttpFilter, httpFilter } from "./filters.ts";
import { isVisible } from "./hosts.ts";
import { outboundName } from "./translate-clusters.ts";
import { routeMatch } from "./translate-match.ts";
import { jwtFilterName, payloadKey } from "./translate-security-match.ts";
import type { Model, Workload } from "./types.ts";

/** Istio's defaults. */
const fetchTimeoutMs = 5_000;
const cacheMs = 5 * 60_000;
const connectTimeoutMs = 10_000;
const listClaims = ["scope", "permission"];

export interface JwtResources {
  filters: HttpFilter[];
  /** For keys outside the mesh. */
  clusters: Cluster[];
}

/** All rules of all policies together. The workload's namespace must see the service that has the keys; a gateway routes by claims. */
export function jwtResources(
  model: Model,
  policies: readonly RequestAuthentication[],
  { namespace, gateway }: Pick<Workload, "namespace" | "gateway">,
): JwtResources {
  const rules = policies.flatMap(({ spec }) => spec?.jwtRules ?? []);
  if (rules.length === 0) return { filters: [], clusters: [] };
  const clusters = new Map<string, Cluster>();
  const providers: Record<string, JwtProvider> = {};
  rules.forEach((rule, index) => {
    providers[`origins-${index}`] = providerOf(rule, keysOf(model, rule, namespace, clusters), gateway);
  });
  const config = pack(JwtAuthenticationSchema, {
    providers,
    rules: [
      { match: routeMatch(undefined), requirementType: { case: "requires", value: required(Object.keys(providers)) } },
    ],
    bypassCorsPreflight: true,
  });
  return { filters: [httpFilter(jwtFilterName, config)], clusters: [...clusters.values()] };
}

type Requirement = MessageInitShape<typeof JwtRequirementSchema>;

const anyOf = (...requirements: Requirement[]): Requirement => ({
  requiresType: { case: "requiresAny", value: { requirements } },
});
const allowMissing: Requirement = { requiresType: { case: "allowMissing", value: {} } };

/**
 * A token must be good but need not be there. With several providers each must be content, unless one accepts the token:
 * they may look for it in the same place.
 */
function required(names: readonly string[]): Requirement {
  const providers = names.map((name): Requirement => ({ requiresType: { case: "providerName", value: name } }));
  if (providers.length === 1) return anyOf(providers[0]!, allowMissing);
  const each = providers.map((provider) => anyOf(provider, allowMissing));
  return anyOf(...providers, { requiresType: { case: "requiresAll", value: { requirements: each } } });
}

type Keys = MessageInitShape<typeof JwtProviderSchema>["jwksSourceSpecifier"];

function providerOf(rule: JwtRule, keys: Keys, clearRouteCache: boolean): JwtProvider {
  return create(JwtProviderSchema, {
    jwksSourceSpecifier: keys!,
    issuer: rule.issuer ?? "",
    audiences: rule.audiences ?? [],
    forward: rule.forwardOriginalToken ?? false,
    forwardPayloadHeader: rule.outputPayloadToHeader ?? "",
    fromHeaders: (rule.fromHeaders ?? []).map(({ name, prefix }) => ({ name, valuePrefix: prefix ?? "" })),
    fromParams: rule.fromParams ?? [],
    fromCookies: rule.fromCookies ?? [],
    claimToHeaders: (rule.outputClaimToHeaders ?? []).map(({ header, claim }) => ({
      headerName: header,
      claimName: claim,
    })),
    payloadInMetadata: payloadKey,
    clearRouteCache,
    normalizePayloadInMetadata: { spaceDelimitedClaims: [...listClaims, ...(rule.spaceDelimitedClaims ?? [])] },
  });
}

export const jwksUriOf = ({ jwksUri, jwks_uri }: JwtRule): string | undefined => jwksUri || jwks_uri || undefined;

/** Without keys there are none: every token is refused. */
function keysOf(model: Model, rule: JwtRule, namespace: string, clusters: Map<string, Cluster>): Keys {
  const uri = jwksUriOf(rule);
  if (rule.jwks || uri === undefined || !URL.canParse(uri)) {
    const specifier = { case: "inlineString", value: rule.jwks || '{"keys":[]}' } as const;
    return { case: "localJwks", value: { specifier } };
  }
  const timeoutMs = parseDurationMs(rule.timeout ?? "") ?? fetchTimeoutMs;
  const cluster = clusterFor(model, new URL(uri), namespace, clusters);
  return {
    case: "remoteJwks",
    value: {
      httpUri: { uri, httpUpstreamType: { case: "cluster", value: cluster }, timeout: durationOf(timeoutMs) },
      cacheDuration: durationOf(cacheMs),
      // The keys are there before the first token is.
      asyncFetch: {},
    },
  };
}

/** A service's own cluster where the host is one, else a cluster by DNS, with TLS for https. */
function clusterFor(model: Model, url: URL, namespace: string, clusters: Map<string, Cluster>): string {
  const isTls = url.protocol === "https:";
  const port = Number(url.port) || (isTls ? 443 : 80);
  const service = serviceOf(model, url.hostname, namespace);
  const name = outboundName(port, "", service?.host ?? url.hostname);
  if (service?.ports.some((each) => each.port === port) && isVisible(service.exportTo, namespace)) return name;
  clusters.set(
    name,
    create(ClusterSchema, {
      name,
      clusterDiscoveryType: { case: "type", value: Discovery.STRICT_DNS },
      connectTimeout: durationOf(connectTimeoutMs),
      loadAssignment: {
        clusterName: name,
        endpoints: [
          {
            lbEndpoints: [{ hostIdentifier: { case: "endpoint", value: { address: tcpAddress(url.hostname, port) } } }],
          },
        ],
      },
      ...(isTls && { transportSocket: verifiedTls(url.hostname) }),
    }),
  );
  return name;
}

/** "name", "name.namespace", "name.namespace.svc" and the whole name. */
function serviceOf(model: Model, host: string, namespace: string) {
  const [name, own = namespace, ...rest] = host.split(".");
  const domain = `svc.${model.config.clusterDomain}`;
  if (rest.length > 0 && rest.join(".") !== "svc" && rest.join(".") !== domain) return undefined;
  return model.serviceByHost.get(`${name}.${own}.${domain}`);
}

/** The certificate must be for the host, by an authority that this system trusts. */
const verifiedTls = (host: string) =>
  create(TransportSocketSchema, {
    name: "envoy.transport_sockets.tls",
    configType: {
      case: "typedConfig",
      value: pack(UpstreamTlsContextSchema, {
        sni: host,
        commonTlsContext: {
          validationContextType: {
            case: "validationContext",
            value: {
              systemRootCerts: {},
              matchTypedSubjectAltNames: [
                { sanType: SanType.DNS, matcher: { matchPattern: { case: "exact", value: host } } },
              ],
            },
          },
        },
      }),
    },
  });
