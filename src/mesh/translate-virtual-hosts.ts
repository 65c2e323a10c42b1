// What a sidecar's HTTP listeners route by: one route configuration per port, one virtual host per service. Pure.

import { create } from "@bufbuild/protobuf";
import {
  type Route,
  RouteSchema,
  type VirtualHost,
  VirtualHostSchema,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { hostPort } from "../kernel/host_port.ts";
import { durationOf } from "./envoy.ts";
import { compareSpecificity, hostCovers, isVisible } from "./hosts.ts";
import type { Memo } from "./memo.ts";
import { isHttp } from "./model.ts";
import { policyFor, subsetPolicy } from "./policies.ts";
import { type Audience, importsRules, importsService, servesPort } from "./sidecar-scope.ts";
import { hashPolicyOf } from "./translate-balancing.ts";
import { outboundName, passthroughName } from "./translate-clusters.ts";
import { routeMatch } from "./translate-match.ts";
import { defaultRoute, httpRoutes } from "./translate-routes.ts";
import type { Model, Policy, RuleSet, ServiceModel } from "./types.ts";

/** Whom the routes are for. */
export interface Client {
  namespace: string;
  labels: Readonly<Record<string, string>>;
  /** DestinationRules that select it. */
  selected?: readonly Policy[] | undefined;
  /** Equal for clients that are routed alike. */
  key: string;
}

/** Hosts outside the mesh that only a VirtualService knows are served on this port (Istio). */
const unknownHostsPort = 80;

/** What clients are told of, one service a host: that of their own namespace, else the one that stands for the host anyway. */
export function visibleServices(model: Model, audience: Audience): ServiceModel[] {
  const { namespace } = audience;
  const visible = model.services.filter(
    (service) => isVisible(service.exportTo, namespace) && importsService(audience, service),
  );
  const chosen = new Map<string, ServiceModel>();
  for (const service of visible) {
    const known = chosen.get(service.host);
    if (known === undefined || service.namespace === namespace) chosen.set(service.host, service);
    else if (known.namespace !== namespace && model.serviceByHost.get(service.host) === service)
      chosen.set(service.host, service);
  }
  return [...chosen.values()];
}

/** Ports on which sidecars listen for HTTP. */
export function httpPorts(services: readonly ServiceModel[], audience: Audience): number[] {
  const ports = new Set<number>();
  for (const service of services)
    for (const { port, protocol } of service.ports)
      if (isHttp(protocol) && !ports.has(port) && servesPort(audience, service, port)) ports.add(port);
  return [...ports].sort((a, b) => a - b);
}

/** The VirtualServices a sidecar obeys, by host. */
export interface RuleIndex {
  /** Oldest first. */
  all: readonly RuleSet[];
  /** The oldest of each host. */
  exact: ReadonlyMap<string, RuleSet>;
  /** Most specific first. */
  wildcards: readonly (readonly [string, RuleSet])[];
}

/** In the mesh VirtualServices for one host do not merge: the oldest wins. */
export function meshRules(model: Model, audience: Audience): RuleIndex {
  const all = [...model.derived.ruleSets, ...model.ruleSets].filter(
    (rules) =>
      rules.gateways.has("mesh") && isVisible(rules.exportTo, audience.namespace) && importsRules(audience, rules),
  );
  const exact = new Map<string, RuleSet>();
  for (const rules of all) for (const host of rules.hosts) if (!exact.has(host)) exact.set(host, rules);
  const wildcards = [...exact].filter(([host]) => host.startsWith("*"));
  return { all, exact, wildcards: wildcards.sort(([a], [b]) => compareSpecificity(a, b)) };
}

/** A rule for the very name comes before any wildcard. */
export const rulesFor = (rules: RuleIndex, host: string): RuleSet | undefined =>
  rules.exact.get(host) ?? rules.wildcards.find(([pattern]) => hostCovers(pattern, host))?.[1];

export function sidecarRoutes(
  model: Model,
  services: readonly ServiceModel[],
  rules: RuleIndex,
  client: Client,
  port: number,
  memo: Memo,
  audience: Audience,
): RouteConfiguration {
  const hosts: VirtualHost[] = [];
  const known = new Set<string>();
  for (const service of services) {
    if (!service.ports.some((p) => p.port === port && isHttp(p.protocol))) continue;
    if (!servesPort(audience, service, port)) continue;
    const ruleSet = rulesFor(rules, service.host);
    const inputs: unknown[] = [service.service, ruleSet];
    for (const host of [service.host, ...(ruleSet?.destinations ?? [])]) {
      const destination = model.serviceByHost.get(host);
      // What is hashed by is said in the route.
      const policies = destination && policyFor(model, destination, client).rules;
      inputs.push(destination?.service, ...(policies ?? []).map(({ object }) => object));
    }
    hosts.push(
      memo.get(`host|${client.key}|${service.host}:${port}`, inputs, () =>
        serviceHost(model, service, ruleSet, client, port, false),
      ),
    );
    known.add(service.host);
  }
  if (audience.registryOnly) hosts.push(...podHosts(services, client, port, audience));
  if (port === unknownHostsPort) hosts.push(...unknownHosts(model, rules, known, client, port));
  return create(RouteConfigurationSchema, {
    name: String(port),
    virtualHosts: [...hosts, audience.registryOnly ? blockAll : allowAny],
    validateClusters: false,
    ignorePortInHostMatching: false,
  });
}

/** In `ports` mode a listener belongs to one service, whatever the Host header says. */
export function singleServiceRoutes(
  model: Model,
  service: ServiceModel,
  rules: RuleIndex,
  client: Client,
  port: number,
): RouteConfiguration {
  return create(RouteConfigurationSchema, {
    name: `${service.host}:${port}`,
    virtualHosts: [serviceHost(model, service, rulesFor(rules, service.host), client, port, true)],
    validateClusters: false,
  });
}

function serviceHost(
  model: Model,
  service: ServiceModel,
  ruleSet: RuleSet | undefined,
  client: Client,
  port: number,
  anyDomain: boolean,
): VirtualHost {
  const byRules = ruleSet?.object.spec?.http?.length && concerns(ruleSet, port);
  const { loadBalancer } = subsetPolicy(policyFor(model, service, client), undefined, port);
  return create(VirtualHostSchema, {
    name: `${service.host}:${port}`,
    domains: anyDomain ? ["*"] : domainsOf(service, client.namespace, port),
    routes: byRules
      ? ruleRoutes(model, ruleSet, client, port)
      : [defaultRoute(model, outboundName(port, "", service.host), hashPolicyOf(loadBalancer))],
    includeRequestAttemptCount: true,
  });
}

/** Routes of the Gateway API may be for one port of a Service; the others go on as without them. */
const concerns = ({ derived, http }: RuleSet, port: number): boolean =>
  !derived || http.some(({ rule }) => rule.match?.some((match) => match.port === undefined || match.port === port));

function ruleRoutes(model: Model, ruleSet: RuleSet, client: Client, port: number): Route[] {
  const { routes, catchAll } = httpRoutes(model, ruleSet, {
    gateways: new Set(["mesh"]),
    listenerPort: port,
    clientLabels: client.labels,
    clientNamespace: client.namespace,
    selected: client.selected,
  });
  return catchAll ? [...routes, catchAll] : routes;
}

/** Every way a client may write the service, each also with the port (Istio: generateVirtualHostDomains). */
export function domainsOf(service: ServiceModel, clientNamespace: string, port: number): string[] {
  const { name, namespace, host, addresses, entry } = service;
  const names = [host];
  if (entry !== undefined) {
    // A range of addresses is nothing that a Host field could say.
    names.push(...addresses.filter((address) => !address.includes("/")));
    return names.flatMap((domain) => [domain, hostPort(domain, port)]);
  }
  if (clientNamespace === namespace) names.push(name);
  names.push(`${name}.${namespace}`, `${name}.${namespace}.svc`, ...addresses);
  return names.flatMap((domain) => [domain, hostPort(domain, port)]);
}

/** Its pods are reached one by one, by names and addresses of their own. */
export const isHeadless = ({ entry, addresses }: ServiceModel): boolean =>
  entry === undefined && addresses.length === 0;

/** Pods of headless services by name: with REGISTRY_ONLY nothing else would let them pass. */
function podHosts(services: readonly ServiceModel[], client: Client, port: number, audience: Audience): VirtualHost[] {
  const hosts = new Set(services.map(({ host }) => host));
  return services.flatMap((service) => {
    if (!isHeadless(service) || !servesPort(audience, service, port)) return [];
    if (!service.ports.some((one) => one.port === port && isHttp(one.protocol))) return [];
    const domains = domainsOf(service, client.namespace, port).map((domain) => `*.${domain}`);
    const name = `*.${service.host}:${port}`;
    const routes = [passthroughRoute("default")];
    const options = { name, domains: domains.filter((domain) => !hosts.has(domain)), routes };
    return [create(VirtualHostSchema, { ...options, includeRequestAttemptCount: true })];
  });
}

function unknownHosts(
  model: Model,
  rules: RuleIndex,
  known: ReadonlySet<string>,
  client: Client,
  port: number,
): VirtualHost[] {
  const hosts: VirtualHost[] = [];
  const seen = new Set<string>();
  for (const ruleSet of rules.all) {
    if (!ruleSet.object.spec?.http?.length) continue;
    for (const host of ruleSet.hosts) {
      // "*" would take what is to pass through; services have hosts of their own.
      if (host === "*" || seen.has(host) || known.has(host) || model.serviceByHost.has(host)) continue;
      seen.add(host);
      hosts.push(
        create(VirtualHostSchema, {
          name: `${host}:${port}`,
          domains: [host, `${host}:${port}`],
          routes: ruleRoutes(model, ruleSet, client, port),
          includeRequestAttemptCount: true,
        }),
      );
    }
  }
  return hosts;
}

const passthroughRoute = (name: string): Route =>
  create(RouteSchema, {
    name,
    match: routeMatch(undefined),
    action: {
      case: "route",
      value: { clusterSpecifier: { case: "cluster", value: passthroughName }, timeout: durationOf(0) },
    },
  });

/** Istio's ALLOW_ANY: what no service is known for goes where it wanted to go. */
const allowAny: VirtualHost = create(VirtualHostSchema, {
  name: "allow_any",
  domains: ["*"],
  routes: [passthroughRoute("allow_any")],
  includeRequestAttemptCount: true,
});

/** Istio's REGISTRY_ONLY. */
const blockAll: VirtualHost = create(VirtualHostSchema, {
  name: "block_all",
  domains: ["*"],
  routes: [
    create(RouteSchema, {
      name: "block_all",
      match: routeMatch(undefined),
      action: { case: "directResponse", value: { status: 502 } },
    }),
  ],
  includeRequestAttemptCount: true,
});
