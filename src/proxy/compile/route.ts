// Envoy RouteConfiguration → an immutable RouteTable. Regular expressions are compiled here, once; unsupported parts throw (NACK).

import {
  type Route as RouteMessage,
  VirtualHost_TlsRequirementType as TlsRequirementType,
  type VirtualHost as VirtualHostMessage,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import type { RouteConfiguration } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { getOrAdd } from "../../kernel/map.ts";
import type { Random } from "../../kernel/random.ts";
import { routeShell } from "../../xds/shared_decoder.ts";
import type { ClusterSlot } from "../clusters/cluster.ts";
import { compileCorsFields, compileFilterSettings } from "../filters/registry.ts";
import { type DomainIndex, indexDomains } from "../routing/domains.ts";
import { compileRateLimits } from "../routing/rate_limits.ts";
import type { HeaderRules, Route, RouteTable, VirtualHost } from "../routing/route.ts";
import { indexRoutes } from "../routing/route_index.ts";
import { type ActionContext, compileAction } from "./action.ts";
import { compileHeaderRules } from "./headers.ts";
import { compileMatch } from "./match.ts";

/** What a table needs of its node. */
export interface RouteContext extends ActionContext {
  random: Random;
  /** The node's own virtual hosts that were compiled already, by message. */
  hosts: WeakMap<VirtualHostMessage, { shell: object; host: VirtualHost }>;
  /** The node's clusters by list of names. */
  slots: WeakMap<readonly string[], readonly ClusterSlot[]>;
}

/** What holds for a message whichever node takes it: it compiles, and these are its domains and clusters. */
interface Checked {
  domains: DomainIndex;
  clusterNames: readonly string[];
}
const checked = new WeakMap<RouteConfiguration, Checked>();
/** Cluster names of virtual hosts that compile, by what is around them. */
const checkedHosts = new WeakMap<object, WeakMap<VirtualHostMessage, readonly string[]>>();

/** A node may be told of thousands of virtual hosts and use three: all are checked, once for all nodes, and compiled when they are used. */
export function compileRoutes(message: RouteConfiguration, context: RouteContext): RouteTable {
  let facts = checked.get(message);
  if (facts === undefined) {
    facts = check(message, context);
    checked.set(message, facts);
  }
  const shell = routeShell(message);
  const made: VirtualHost[] = new Array(message.virtualHosts.length);
  const compile = (host: VirtualHostMessage): VirtualHost => {
    const known = context.hosts.get(host);
    if (known?.shell === shell) return known.host;
    const fresh = compileVirtualHost(host, context, message);
    context.hosts.set(host, { shell, host: fresh });
    return fresh;
  };
  return {
    name: message.name,
    domains: facts.domains,
    host(place) {
      made[place] ??= compile(message.virtualHosts[place]!);
      return made[place];
    },
    clusters: getOrAdd(context.slots, facts.clusterNames, () => facts.clusterNames.map(context.slot)),
  };
}

/** Throws what compiling throws. */
function check(message: RouteConfiguration, context: RouteContext): Checked {
  const known = getOrAdd(checkedHosts, routeShell(message), () => new WeakMap());
  const clusterNames = new Set<string>();
  for (const host of message.virtualHosts) {
    const names = getOrAdd(known, host, () => {
      const used = new Set<string>();
      const slot: RouteContext["slot"] = (name) => {
        used.add(name);
        return context.slot(name);
      };
      compileVirtualHost(host, { ...context, slot }, message);
      return [...used];
    });
    for (const name of names) clusterNames.add(name);
  }
  return { domains: indexDomains(message.virtualHosts), clusterNames: sameNames(message.name, [...clusterNames]) };
}

/** Lists of cluster names by table, as they were last: most changes leave them as they are. */
const lastNames = new Map<string, readonly string[]>();
const lastNamesMax = 1_000;

function sameNames(table: string, names: readonly string[]): readonly string[] {
  const last = lastNames.get(table);
  if (last?.length === names.length && names.every((name, index) => last[index] === name)) return last;
  if (lastNames.size >= lastNamesMax) lastNames.clear();
  lastNames.set(table, names);
  return names;
}

interface Rules {
  request: HeaderRules | undefined;
  response: HeaderRules | undefined;
}

function compileVirtualHost(
  message: VirtualHostMessage,
  context: RouteContext,
  table: RouteConfiguration,
): VirtualHost {
  const own: Rules = {
    request: compileHeaderRules(message.requestHeadersToAdd, message.requestHeadersToRemove),
    response: compileHeaderRules(message.responseHeadersToAdd, message.responseHeadersToRemove),
  };
  const outer = [
    own,
    {
      request: compileHeaderRules(table.requestHeadersToAdd, table.requestHeadersToRemove),
      response: compileHeaderRules(table.responseHeadersToAdd, table.responseHeadersToRemove),
    },
  ];
  const routes = message.routes.map((route) => {
    try {
      return compileRoute(route, { host: message, table, rules: outer }, context);
    } catch (cause) {
      const at = `virtual host ${message.name}, route ${route.name || "(unnamed)"}`;
      throw new MeshbedError("ROUTE_INVALID", `${at}: ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
  });
  return { name: message.name, requireTls: requirements[message.requireTls], routes, index: indexRoutes(routes) };
}

function decoratorOf({ decorator }: RouteMessage): Route["decorator"] {
  if (!decorator?.operation) return undefined;
  return { operation: decorator.operation, propagate: decorator.propagate ?? true };
}

const requirements: Record<TlsRequirementType, VirtualHost["requireTls"]> = {
  [TlsRequirementType.NONE]: undefined,
  [TlsRequirementType.EXTERNAL_ONLY]: "external",
  [TlsRequirementType.ALL]: "all",
};

/** What is around a route; `rules` from the inside out. */
interface Outer {
  host: VirtualHostMessage;
  table: RouteConfiguration;
  rules: readonly Rules[];
}

function compileRoute(message: RouteMessage, outer: Outer, context: RouteContext): Route {
  const { match } = message;
  const { host, table } = outer;
  if (!match) throw new MeshbedError("ROUTE_INVALID", "it has no match");
  const levels: Rules[] = [
    {
      request: compileHeaderRules(message.requestHeadersToAdd, message.requestHeadersToRemove),
      response: compileHeaderRules(message.responseHeadersToAdd, message.responseHeadersToRemove),
    },
    ...outer.rules,
  ];
  const { settings, off } = compileFilterSettings(
    table.typedPerFilterConfig,
    host.typedPerFilterConfig,
    message.typedPerFilterConfig,
  );
  // Envoy's order: route, virtual host, table, so that the outermost has the last word, unless told otherwise.
  if (table.mostSpecificHeaderMutationsWins) levels.reverse();
  const requestHeaders = levels.map(({ request }) => request).filter((rules) => rules !== undefined);
  const responseHeaders = levels.map(({ response }) => response).filter((rules) => rules !== undefined);
  return {
    name: message.name,
    ...compileMatch(match, context.random),
    decorator: decoratorOf(message),
    action: compileAction(message, { match, host, table, requestHeaders, responseHeaders }, context),
    responseHeaders,
    filterSettings: settings,
    filtersOff: off,
    rateLimits: compileRouteLimits(message, host),
    cors: compileCorsFields(host.cors, message.action.case === "route" ? message.action.value.cors : undefined),
  };
}

function compileRouteLimits(message: RouteMessage, host: VirtualHostMessage): Route["rateLimits"] {
  const action = message.action.case === "route" ? message.action.value : undefined;
  const { rateLimits = [], clusterSpecifier, includeVhRateLimits } = action ?? {};
  if (rateLimits.length === 0 && host.rateLimits.length === 0) return undefined;
  const cluster = clusterSpecifier?.case === "cluster" ? clusterSpecifier.value : undefined;
  return {
    route: compileRateLimits(rateLimits, cluster),
    virtualHost: compileRateLimits(host.rateLimits, cluster),
    includesVirtualHost: includeVhRateLimits ?? false,
  };
}
