// One HTTP chain of one proxy: route, filters, and the ways the request may go on from there.

import type { Route as RouteMessage } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import type { RouteConfiguration } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { type ExtAuthz, ExtAuthzSchema } from "#gen/xds/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { type HTTPFault, HTTPFaultSchema } from "#gen/xds/envoy/extensions/filters/http/fault/v3/fault_pb.js";
import { RBACSchema as HttpRbacSchema } from "#gen/xds/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import {
  type HttpConnectionManager,
  HttpConnectionManagerSchema,
} from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { ConnectionInfo, HttpChain } from "../proxy/chain.ts";
import type { ClusterSlot } from "../proxy/clusters/cluster.ts";
import { durationMs, unpack } from "../proxy/compile/any.ts";
import { shareOf } from "../proxy/compile/fraction.ts";
import type { CompiledListener } from "../proxy/compile/listener.ts";
import type { ForwardAction } from "../proxy/routing/route.ts";
import { typeUrls } from "../xds/types.ts";
import type { Context } from "./context.ts";
import { type Answer, DryExchange, filtersOf, type NamedFilter } from "./dry_exchange.ts";
import type { DryNode } from "./dry_node.ts";
import { policyRule, ruleField, verdictSteps } from "./policies.ts";
import { routeSteps } from "./routes.ts";
import type { Step } from "./types.ts";

export interface HopPlace {
  context: Context;
  dry: DryNode;
  listener: CompiledListener;
  chain: HttpChain;
  client: ConnectionInfo;
}

export const registryOnlyReason = "no service is known for it, and outboundTrafficPolicy is REGISTRY_ONLY";

/** How the request leaves this proxy. */
export type HopEnd =
  | { kind: "answer"; percent: number; answer: Answer; reason: string; at?: string; deniedBy?: string }
  | { kind: "forward"; percent: number; slot: ClusterSlot; action: ForwardAction; exchange: DryExchange; head: Buffer };

export interface HopResult {
  steps: Step[];
  /** Undefined when the route has no message of its own (httpsRedirect), or there is none. */
  route: RouteMessage | undefined;
  fault: HTTPFault | undefined;
  ends: HopEnd[];
}

const chainFilters = new WeakMap<HttpChain, NamedFilter[]>();

/** The message a compiled chain was made from. */
export function managerOf({
  dry,
  listener,
  chain,
}: Omit<HopPlace, "context" | "client">): HttpConnectionManager | undefined {
  const message = listenerMessage(dry, listener.name);
  const index = listener.chains.findIndex(({ slot, chain: own }) => own === chain || slot.current === chain);
  const chainMessage = index < 0 ? message?.defaultFilterChain : message?.filterChains[index];
  for (const { configType } of chainMessage?.filters ?? []) {
    const found = configType.case === "typedConfig" ? unpack(configType.value, HttpConnectionManagerSchema) : undefined;
    if (found) return found;
  }
  return undefined;
}

type ListenerMessage = import("#gen/xds/envoy/config/listener/v3/listener_pb.js").Listener;

export const listenerMessage = ({ snapshot }: DryNode, name: string): ListenerMessage | undefined =>
  snapshot.resources[typeUrls.listener]?.resources.find((each) => each.name === name)?.message as
    | ListenerMessage
    | undefined;

function routesOf({ snapshot }: DryNode, manager: HttpConnectionManager | undefined): RouteConfiguration | undefined {
  const specifier = manager?.routeSpecifier;
  if (specifier?.case === "routeConfig") return specifier.value;
  if (specifier?.case !== "rds") return undefined;
  const name = specifier.value.routeConfigName;
  return snapshot.resources[typeUrls.route]?.resources.find((each) => each.name === name)?.message as
    | RouteConfiguration
    | undefined;
}

export async function httpHop(place: HopPlace, bytes: Buffer): Promise<HopResult> {
  const { context, dry, chain } = place;
  const { world, model } = context;
  const manager = managerOf(place);
  let filters = chainFilters.get(chain);
  if (filters === undefined) {
    filters = filtersOf(dry, manager?.httpFilters ?? []);
    chainFilters.set(chain, filters);
  }
  const verdicts: Step[] = [];
  const usual = await pass(place, filters, bytes, false, verdicts);
  const { exchange } = usual;
  // An inbound chain has one route, which nobody wrote.
  const found = chain.inbound
    ? { message: undefined, steps: [] }
    : routeSteps(
        world,
        model,
        routesOf(dry, manager),
        exchange.virtualHost,
        exchange.matchedRoute,
        exchange.request,
        model.workloads.find(({ ip }) => ip === place.client.remoteAddress),
        place.client.localPort,
      );
  const fault = faultOf(found.message);
  const ends: HopEnd[] = [];
  let left = 100;
  if (fault?.abort && usual.exchange.answer === undefined) {
    const percent = shareOf(fault.abort.percentage, 0) * 100;
    const struck = percent > 0 ? await pass(place, filters, bytes, true, []) : undefined;
    if (struck?.exchange.answer?.flag === "FI") {
      left -= percent;
      ends.push({ ...answered(struck, context), percent });
    }
  }
  const steps = [...found.steps, ...verdicts];
  if (usual.exchange.answer !== undefined) ends.push({ ...answered(usual, context), percent: left });
  else if (left > 0) ends.push(...(await decide(place, filters, bytes, exchange, left)));
  return { steps, route: found.message, fault, ends };
}

interface Passed {
  exchange: DryExchange;
  /** The filter that answered. */
  by: NamedFilter | undefined;
}

/** Through every filter. `hits`: what is drawn for happens. */
async function pass(
  { context, dry, chain, client }: HopPlace,
  filters: readonly NamedFilter[],
  bytes: Buffer,
  hits: boolean,
  verdicts: Step[],
): Promise<Passed> {
  const exchange = new DryExchange(dry, chain, client);
  dry.dice.hits = hits;
  exchange.start(bytes);
  for (const each of filters) {
    if (exchange.answer !== undefined) break;
    const { message, filter } = each;
    const config = message.configType.case === "typedConfig" ? message.configType.value : undefined;
    const rbac = config && unpack(config, HttpRbacSchema);
    if (rbac?.rules) verdicts.push(...verdictSteps(context.model, context.world, rbac.rules, exchange.run, false));
    const custom = config && unpack(config, ExtAuthzSchema);
    if (custom) {
      verdicts.push(...customSteps(custom, exchange));
      continue;
    }
    dry.dice.hits = hits;
    await exchange.filter(filter);
    dry.dice.hits = false;
    if (message.name === "envoy.filters.http.jwt_authn") verdicts.push(tokenStep(exchange));
    if (exchange.answer !== undefined) return { exchange, by: each };
  }
  dry.dice.hits = false;
  return { exchange, by: undefined };
}

/** Nobody is asked here: what the provider of a CUSTOM policy would say is not known. */
function customSteps({ filterEnabledMetadata: enabled }: ExtAuthz, { run }: DryExchange): Step[] {
  const told = run.metadata("envoy.filters.http.rbac") as Record<string, string> | undefined;
  const policy = enabled && told?.[enabled.path[0]?.segment.value ?? ""];
  if (policy === undefined) return [];
  return [{ label: "CUSTOM", text: `${policy} matches: its provider is asked and may refuse`, mark: "warning" }];
}

function tokenStep({ answer, run }: DryExchange): Step {
  const label = "RequestAuthentication";
  if (answer) return { label, text: `refuses the token: ${answer.body || answer.details}`, mark: "no" };
  const told = run.metadata("envoy.filters.http.jwt_authn") as { payload?: { iss?: string; sub?: string } } | undefined;
  const payload = told?.payload;
  if (payload === undefined) return { label, text: "no token: passes, as only a policy can demand one", mark: "yes" };
  return { label, text: `accepts the token of ${payload.iss}/${payload.sub ?? "(no subject)"}`, mark: "yes" };
}

/** Why a proxy answered by itself. */
function answered({ exchange, by }: Passed, { model, world }: Context): Omit<HopEnd & { kind: "answer" }, "percent"> {
  const answer = exchange.answer!;
  const base = { kind: "answer", answer } as const;
  const [, name] = /^rbac_access_denied_matched_policy\[(.*)\]$/.exec(answer.details) ?? [];
  if (name === "none") return { ...base, reason: "no ALLOW policy matches", deniedBy: "no ALLOW policy matches" };
  if (name !== undefined) {
    const source = policyRule(model, name);
    if (source === undefined) return { ...base, reason: `denied by ${name}`, deniedBy: name };
    const { object, index } = source;
    const who = `${object.spec?.action ?? "ALLOW"} ${object.metadata.namespace}/${object.metadata.name} rule ${index}`;
    return {
      ...base,
      reason: `AuthorizationPolicy ${who}`,
      deniedBy: who,
      at: world.places.of(object, ruleField(index)),
    };
  }
  if (answer.flag === "FI") return { ...base, reason: "fault injected (abort)" };
  if (answer.details.startsWith("jwt_authn_access_denied")) return { ...base, reason: `token refused: ${answer.body}` };
  return { ...base, reason: by ? `answered by filter ${by.filter.name}` : answer.details };
}

export function faultOf(route: RouteMessage | undefined): HTTPFault | undefined {
  const any = route?.typedPerFilterConfig["envoy.filters.http.fault"];
  return any && unpack(any, HTTPFaultSchema);
}

export const faultDelayMs = (fault: HTTPFault): number =>
  fault.delay?.faultDelaySecifier.case === "fixedDelay" ? durationMs(fault.delay.faultDelaySecifier.value, 0) : 0;

const local = (status: number, flag: string, details: string, more: Partial<Answer> = {}): Answer => ({
  status,
  flag,
  details,
  body: "",
  headers: "",
  ...more,
});

/** What the route does, as Exchange decides it; `percent`: of what gets this far. */
async function decide(
  place: HopPlace,
  filters: readonly NamedFilter[],
  bytes: Buffer,
  exchange: DryExchange,
  percent: number,
): Promise<HopEnd[]> {
  const action = exchange.matchedRoute?.action;
  if (action === undefined) {
    const reason = exchange.virtualHost ? "no route matches" : "no virtual host for this host";
    return [{ kind: "answer", percent, answer: local(404, "NR", "route_not_found"), reason }];
  }
  if (action.kind === "direct") {
    const answer = local(action.status, "-", "direct_response", { body: action.body });
    const reason = action.countedAs === undefined ? "direct response of the route" : registryOnlyReason;
    return [{ kind: "answer", percent, answer, reason }];
  }
  if (action.kind === "redirect") {
    const headers = `location: ${action.location(exchange.request)}\r\n`;
    return [
      {
        kind: "answer",
        percent,
        answer: local(action.status, "-", "direct_response", { headers }),
        reason: "redirect",
      },
    ];
  }
  const ends: HopEnd[] = [];
  for (const [index, target] of action.targets.entries()) {
    const weight = action.weights[index]!;
    if (weight === 0 && action.targets.length > 1) continue;
    const share = action.targets.length === 1 ? percent : (percent * weight) / action.totalWeight;
    const slot = target.slotOf === undefined ? target.slot : target.slotOf(exchange.request);
    if (slot?.current === undefined) {
      const answer = local(action.clusterNotFoundStatus, "NC", "cluster_not_found");
      ends.push({ kind: "answer", percent: share, answer, reason: noClusterReason(slot?.name ?? "") });
      continue;
    }
    // Header changes are the exchange's own: each target needs one of its own.
    const own = ends.length === 0 ? exchange : (await pass(place, filters, bytes, false, [])).exchange;
    ends.push({ kind: "forward", percent: share, slot, action, exchange: own, head: own.forward(action, target) });
  }
  return ends;
}

function noClusterReason(cluster: string): string {
  const [, port, subset, host] = cluster.split("|");
  if (!host) return "no such cluster";
  return subset
    ? `no subset "${subset}" of ${host} for port ${port}: a DestinationRule has to define it`
    : `${host} has no port ${port}, or is not known here`;
}
