// Envoy RouteConfiguration → an immutable RouteTable. Regular expressions are compiled here, once; unsupported parts throw (NACK).

import {
  type Route as RouteMessage,
  VirtualHost_TlsRequirementType as TlsRequirementType,
  type VirtualHost as VirtualHostMessage,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import type { RouteConfiguration } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import type { Random } from "../../kernel/random.ts";
import type { ClusterSlot } from "../clusters/cluster.ts";
import { compileCorsFields, compileFilterSettings } from "../filters/registry.ts";
import { compileRateLimits } from "../routing/rate_limits.ts";
import type { HeaderRules, Route, RouteTable, VirtualHost } from "../routing/route.ts";
import { indexRoutes } from "../routing/route_index.ts";
import { type ActionContext, compileAction } from "./action.ts";
import { compileHeaderRules } from "./headers.ts";
import { compileMatch } from "./match.ts";

/** What a table needs of its node. */
export interface RouteContext extends ActionContext {
  random: Random;
}

export function compileRoutes(message: RouteConfiguration, context: RouteContext): RouteTable {
  const used = new Map<string, ClusterSlot>();
  const tracking: RouteContext = {
    ...context,
    slot(name) {
      const slot = context.slot(name);
      used.set(name, slot);
      return slot;
    },
  };
  const rules = {
    request: compileHeaderRules(message.requestHeadersToAdd, message.requestHeadersToRemove),
    response: compileHeaderRules(message.responseHeadersToAdd, message.responseHeadersToRemove),
  };
  const exact = new Map<string, VirtualHost>();
  const suffixes: { text: string; host: VirtualHost }[] = [];
  const prefixes: { text: string; host: VirtualHost }[] = [];
  let any: VirtualHost | undefined;
  for (const entry of message.virtualHosts) {
    const host = compileVirtualHost(entry, tracking, message, rules);
    for (const domain of entry.domains.map((text) => text.toLowerCase())) {
      if (domain === "*") any ??= host;
      else if (domain.startsWith("*")) suffixes.push({ text: domain.slice(1), host });
      else if (domain.endsWith("*")) prefixes.push({ text: domain.slice(0, -1), host });
      // Ports do not take part: a host "a.b:8080" in a request is looked up as "a.b".
      else {
        const bare = domain.replace(/:\d+$/, "");
        if (!exact.has(bare)) exact.set(bare, host);
      }
    }
  }
  const longestFirst = (a: { text: string }, b: { text: string }): number => b.text.length - a.text.length;
  suffixes.sort(longestFirst);
  prefixes.sort(longestFirst);
  return { name: message.name, exact, suffixes, prefixes, any, clusters: [...used.values()] };
}

interface Rules {
  request: HeaderRules | undefined;
  response: HeaderRules | undefined;
}

function compileVirtualHost(
  message: VirtualHostMessage,
  context: RouteContext,
  table: RouteConfiguration,
  tableRules: Rules,
): VirtualHost {
  const own: Rules = {
    request: compileHeaderRules(message.requestHeadersToAdd, message.requestHeadersToRemove),
    response: compileHeaderRules(message.responseHeadersToAdd, message.responseHeadersToRemove),
  };
  const outer = [own, tableRules];
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
