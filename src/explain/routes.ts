// Which route a request takes and why not another: every route before the winner with the condition that failed, and those it beat.

import type { Route as RouteMessage, VirtualHost } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import type { RouteConfiguration } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import type { KubeObject } from "../api/object.ts";
import { hostCovers } from "../mesh/hosts.ts";
import { sourceOf } from "../mesh/rule-source.ts";
import { appliesTo } from "../mesh/translate-match.ts";
import type { Model, RuleSource, Workload } from "../mesh/types.ts";
import type { RequestView } from "../proxy/http/request.ts";
import { type VirtualHost as CompiledHost, matches, type Route } from "../proxy/routing/route.ts";
import { conditionsOf, matchText } from "./conditions.ts";
import type { Step, World } from "./types.ts";

/** Routes shown before the winner, and after it. */
const skippedMax = 12;
const beatenMax = 5;

export interface FoundRoute {
  message: RouteMessage | undefined;
  steps: Step[];
}

/** `route`: what the proxy has chosen. */
export function routeSteps(
  world: World,
  model: Model,
  table: RouteConfiguration | undefined,
  host: CompiledHost | undefined,
  route: Route | undefined,
  request: RequestView,
  caller: Workload | undefined,
  port: number,
): FoundRoute {
  const message = table?.virtualHosts.find(({ name }) => name === host?.name);
  if (message === undefined || host === undefined) {
    const known = table?.virtualHosts.flatMap(({ domains }) => domains.slice(0, 1)) ?? [];
    const text = `no virtual host for ${request.host}; there are ${known.slice(0, 8).join(", ") || "none"}`;
    return { message: undefined, steps: [{ label: "virtual host", text, mark: "no" }] };
  }
  const steps: Step[] = [{ label: "virtual host", text: hostText(message, request.host), mark: "yes" }];
  steps.push(...unusedSteps(world, model, message));
  if (caller !== undefined && !caller.gateway) steps.push(...droppedSteps(world, model, message, caller, port));
  const chosen = host.routes.indexOf(route!);
  if (route !== undefined && chosen < 0) {
    steps.push({ label: "route", text: "the server sends plain HTTP to https (httpsRedirect)", mark: "yes" });
    return { message: undefined, steps };
  }
  const winner = route === undefined ? message.routes.length : chosen;
  const skipped = message.routes.slice(0, winner).map((each) => skippedStep(world, model, each, request));
  if (skipped.length > skippedMax)
    skipped.splice(0, skipped.length - skippedMax, {
      label: "",
      text: `… ${skipped.length - skippedMax} more that do not match`,
    });
  steps.push(...skipped);
  if (route === undefined) {
    steps.push({ label: "route", text: `none of the ${winner} routes matches`, mark: "no" });
    return { message: undefined, steps };
  }
  const own = message.routes[winner]!;
  steps.push({
    ...named(world, model, own),
    label: "route",
    mark: "yes",
    text: `${title(own)} matches: ${matchText(own.match)}`,
  });
  const beaten = host.routes
    .map((each, index) => ({ each, index }))
    .filter(({ each, index }) => index > winner && matches(each, request));
  for (const { index } of beaten.slice(0, beatenMax)) {
    const other = message.routes[index]!;
    steps.push({
      ...named(world, model, other),
      label: "beaten",
      text: `${title(other)} would match too, but comes later: ${matchText(other.match)}`,
    });
  }
  if (beaten.length > beatenMax) steps.push({ label: "", text: `… ${beaten.length - beatenMax} more would match too` });
  return { message: own, steps };
}

/** VirtualServices for the same host of which no rule came to be a route here. */
function unusedSteps(world: World, model: Model, message: VirtualHost): Step[] {
  const host = message.name.replace(/:\d+$/, "");
  const used = new Set(message.routes.map(({ metadata }) => sourceOf(metadata)?.config));
  return model.ruleSets.flatMap(({ object, hosts, gateways, http, key }): Step[] => {
    if (!hosts.some((each) => each !== "*" && hostCovers(each, host)) || http.length === 0) return [];
    if (http.some(({ source }) => used.has(source.config))) return [];
    const isMesh = gateways.has("mesh");
    const why = isMesh
      ? "has this host too, but no rule for this caller: in the mesh VirtualServices do not merge, the oldest wins"
      : `is bound to ${[...gateways].join(", ")} only`;
    return [{ label: "not used", text: `VirtualService ${key} ${why}`, at: world.places.of(object, "spec") }];
  });
}

/** Conditions on the caller, which the mesh decides on when it makes a sidecar's routes. */
const callerFields = ["port", "gateways", "sourceLabels", "sourceNamespace"] as const;

/** Matches of the rules in use that cannot hold for this caller, so that no route was made of them. */
function droppedSteps(world: World, model: Model, message: VirtualHost, caller: Workload, port: number): Step[] {
  const used = new Set(message.routes.map(({ metadata }) => sourceOf(metadata)?.config));
  const client = { clientLabels: caller.labels, clientNamespace: caller.namespace };
  const sidecar = { ...client, gateways: new Set(["mesh"]), listenerPort: port };
  const rules = model.ruleSets.flatMap(({ http }) => http).filter(({ source }) => used.has(source.config));
  return rules.flatMap(({ rule, namespace, source }) =>
    (rule.match ?? []).flatMap((match, index): Step[] => {
      const context = { ...sidecar, namespace };
      if (appliesTo(match, context)) return [];
      // Who names gateways does not ask for the client.
      const asked = match.gateways?.length ? callerFields.slice(0, 2) : callerFields;
      const failed = asked.filter((field) => !appliesTo({ [field]: match[field] }, context));
      const why = failed.map((field) => `${field} ${JSON.stringify(match[field])}`).join(", ");
      const at = placeOf(world, model, { ...source, field: `${source.field}.match[${index}]` });
      return [{ label: "not used", text: `match ${index} of "${rule.name ?? ""}" is not for this caller: ${why}`, at }];
    }),
  );
}

function hostText({ name, domains }: VirtualHost, host: string): string {
  const exact = domains.find((domain) => domain.toLowerCase().replace(/:\d+$/, "") === host);
  const wild = domains
    .filter((domain) => domain.includes("*"))
    .find((domain) => domain === "*" || covers(domain, host));
  return `${name}, by its domain ${exact ?? wild ?? domains[0]}`;
}

const covers = (domain: string, host: string): boolean =>
  domain.startsWith("*") ? host.endsWith(domain.slice(1)) : host.startsWith(domain.slice(0, -1));

function skippedStep(world: World, model: Model, route: RouteMessage, request: RequestView): Step {
  const failed = route.match ? conditionsOf(route.match, request).filter(({ holds }) => !holds) : [];
  const why = failed.map(({ text, got }) => `${text}, but ${got}`).join("; ");
  return { ...named(world, model, route), label: "skipped", text: `${title(route)}: ${why || "does not match"}` };
}

const title = (route: RouteMessage): string => (route.name === "" ? "(unnamed)" : `"${route.name}"`);

function named(world: World, model: Model, route: RouteMessage): Pick<Step, "at"> {
  const source = sourceOf(route.metadata);
  return source === undefined ? {} : { at: placeOf(world, model, source) };
}

export function placeOf(world: World, model: Model, source: RuleSource): string {
  const object = objectOf(model, source);
  return object ? world.places.of(object, source.field) : source.config;
}

/** The object that Istio's reference names. */
export function objectOf({ ruleSets }: Model, { config }: RuleSource) {
  const [, , , , , namespace, kind, name] = config.split("/");
  if (kind !== "virtual-service") return refOf(kind ?? "", namespace ?? "", name ?? "");
  const found = ruleSets.find(({ object: { metadata } }) => metadata.namespace === namespace && metadata.name === name);
  return found?.object ?? refOf("virtual-service", namespace ?? "", name ?? "");
}

const kinds: Readonly<Record<string, Pick<KubeObject, "apiVersion" | "kind">>> = {
  "virtual-service": { apiVersion: "networking.istio.io/v1", kind: "VirtualService" },
  "http-route": { apiVersion: "gateway.networking.k8s.io/v1", kind: "HTTPRoute" },
  "grpc-route": { apiVersion: "gateway.networking.k8s.io/v1", kind: "GRPCRoute" },
};

const refOf = (kind: string, namespace: string, name: string) =>
  ({
    ...(kinds[kind] ?? { apiVersion: "", kind }),
    metadata: { name, namespace, uid: "", resourceVersion: "", creationTimestamp: "" },
  }) as const;
