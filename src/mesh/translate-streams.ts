// Ports that are not HTTP, as sidecars see them: filter chains by server name, destination address or nothing at all. Pure.

import { isIP } from "node:net";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type Filter,
  type FilterChain,
  FilterChainSchema,
} from "#gen/xds/envoy/config/listener/v3/listener_components_pb.js";
import { matchesMap } from "../api/selectors.ts";
import { type ListenerTelemetry, statsFilters, tcpProxy } from "./filters.ts";
import { hostCovers, resolveGateway } from "./hosts.ts";
import { policyFor, subsetPolicy, tcpSettingsOf } from "./policies.ts";
import { outboundName } from "./translate-clusters.ts";
import { clusterOf } from "./translate-routes.ts";
import type { Client, RuleIndex } from "./translate-virtual-hosts.ts";
import type { HttpDestination, Model, PortModel, RuleSet, ServiceModel, VirtualServiceSpec } from "./types.ts";

export interface StreamContext {
  model: Model;
  rules: RuleIndex;
  client: Client;
  telemetry: ListenerTelemetry;
}

/** Where a listener is: all addresses, one, or a range of them (then it is bound to all and the chain asks for the range). */
export interface Bind {
  address: string;
  cidr: string | undefined;
}

export const anyAddress = "0.0.0.0";

export function bindsOf({ addresses }: ServiceModel): Bind[] {
  if (addresses.length === 0) return [{ address: anyAddress, cidr: undefined }];
  return addresses.flatMap((text): Bind[] => {
    const slash = text.indexOf("/");
    if (slash >= 0) return [{ address: anyAddress, cidr: text }];
    return isIP(text) === 0 ? [] : [{ address: text, cidr: undefined }];
  });
}

/** A chain before it is part of a listener. Neither names nor subnets: it takes everything. */
export interface StreamChain {
  serverNames: readonly string[];
  subnets: readonly string[];
  filters: Filter[];
}

type TlsMatch = NonNullable<VirtualServiceSpec["tls"]>[number]["match"][number];
type TcpMatch = NonNullable<NonNullable<VirtualServiceSpec["tcp"]>[number]["match"]>[number];
type Weighted = Pick<HttpDestination, "destination" | "weight">;

/** Unlike for HTTP, all VirtualServices of a host count, oldest first (Istio: getConfigsForHost). */
export function streamChains(
  context: StreamContext,
  service: ServiceModel,
  port: PortModel,
  bind: Bind,
): StreamChain[] {
  const rules = context.rules.all.filter(({ hosts }) => hosts.some((host) => hostCovers(host, service.host)));
  return port.protocol === "tls"
    ? tlsChains(context, rules, service, port, bind)
    : tcpChains(context, rules, service, port, bind);
}

/** By server name where a rule says so, or where the address alone does not tell the service. */
function tlsChains(
  context: StreamContext,
  rules: readonly RuleSet[],
  service: ServiceModel,
  port: PortModel,
  { address, cidr }: Bind,
): StreamChain[] {
  const own = cidr === undefined ? [] : [cidr];
  const chains: StreamChain[] = [];
  for (const ruleSet of rules)
    for (const { match, route } of ruleSet.object.spec?.tls ?? [])
      for (const one of match) {
        if (!applies(one, ruleSet, context.client, port.port)) continue;
        const subnets = one.destinationSubnets?.length ? one.destinationSubnets : own;
        chains.push({ serverNames: one.sniHosts, subnets, filters: routed(context, service, port, ruleSet, route) });
      }
  if (chains.length > 0) return chains;
  const serverNames = address === anyAddress ? [service.host] : [];
  return [{ serverNames, subnets: own, filters: routed(context, service, port, undefined, undefined) }];
}

/** The first rule that asks for no address ends the list; those that do come before it. */
function tcpChains(
  context: StreamContext,
  rules: readonly RuleSet[],
  service: ServiceModel,
  port: PortModel,
  { cidr }: Bind,
): StreamChain[] {
  const own = cidr === undefined ? [] : [cidr];
  const chains: StreamChain[] = [];
  for (const ruleSet of rules)
    for (const { match = [], route } of ruleSet.object.spec?.tcp ?? []) {
      const fitting = match.filter((one) => applies(one, ruleSet, context.client, port.port));
      if (match.length > 0 && fitting.length === 0) continue;
      const filters = routed(context, service, port, ruleSet, route);
      if (fitting.every(({ destinationSubnets }) => destinationSubnets?.length))
        if (match.length > 0) {
          chains.push({
            serverNames: [],
            subnets: fitting.flatMap(({ destinationSubnets = [] }) => destinationSubnets),
            filters,
          });
          continue;
        }
      return [...chains, { serverNames: [], subnets: own, filters }];
    }
  return [...chains, { serverNames: [], subnets: own, filters: routed(context, service, port, undefined, undefined) }];
}

/** Whether a match can hold for this client and port; names and addresses are asked at each connection. */
function applies(
  match: TlsMatch | TcpMatch,
  { namespace, gateways: bound }: RuleSet,
  client: Client,
  port: number,
): boolean {
  const { gateways, sourceLabels, sourceNamespace, port: asked } = match;
  const isOfMesh = gateways?.length
    ? gateways.some((name) => resolveGateway(name, namespace) === "mesh")
    : bound.has("mesh");
  if (!isOfMesh || (asked && asked !== port)) return false;
  return matchesMap(sourceLabels, client.labels) && (!sourceNamespace || sourceNamespace === client.namespace);
}

/** To what a rule says; without one, or with one that leads nowhere, to the service. */
function routed(
  { model, client, telemetry }: StreamContext,
  service: ServiceModel,
  port: PortModel,
  rules: RuleSet | undefined,
  route: readonly Weighted[] | undefined,
): Filter[] {
  const own = outboundName(port.port, "", service.host);
  const all = route ?? [];
  const context = { namespace: rules?.namespace ?? "", listenerPort: port.port };
  const destinations = (all.length === 1 ? all : all.filter(({ weight }) => (weight ?? 0) > 0)).map(
    ({ destination, weight }) => ({ name: clusterOf(model, destination, context), weight: weight || 1 }),
  );
  const settings = tcpSettingsOf(subsetPolicy(policyFor(model, service, client), undefined, port.port));
  const clusters = destinations.length > 0 ? destinations : [{ name: own, weight: 1 }];
  return [...statsFilters(telemetry), tcpProxy(own, clusters, telemetry, settings)];
}

/** A "*" among the names asks for nothing. */
export function filterChain({ serverNames, subnets, filters }: StreamChain): FilterChain {
  const names = serverNames.includes("*") ? [] : [...new Set(serverNames.map((name) => name.toLowerCase()))].sort();
  const match: NonNullable<MessageInitShape<typeof FilterChainSchema>["filterChainMatch"]> = {
    ...(names.length > 0 && { serverNames: names }),
    ...(subnets.length > 0 && { prefixRanges: subnets.map(rangeOf) }),
  };
  return create(FilterChainSchema, {
    ...(Object.keys(match).length > 0 && { filterChainMatch: match }),
    filters,
  });
}

/** Asks for nothing: beside it no other such chain has a place. */
export const isOpen = ({ serverNames, subnets }: StreamChain): boolean =>
  subnets.length === 0 && (serverNames.length === 0 || serverNames.includes("*"));

/** Equal for chains that no connection could tell apart. */
export const matchOf = ({ serverNames, subnets }: StreamChain): string =>
  JSON.stringify([[...serverNames].sort(), [...subnets].sort()]);

function rangeOf(text: string): { addressPrefix: string; prefixLen: number } {
  const [addressPrefix = "", length] = text.split("/");
  return { addressPrefix, prefixLen: length === undefined ? (isIP(addressPrefix) === 6 ? 128 : 32) : Number(length) };
}
