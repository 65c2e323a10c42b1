// What a route does to a request, in words: answers, rewrites, header changes, CORS, mirrors, faults, timeout and retries.

import type { HeaderValueOption } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import {
  CorsPolicySchema,
  type RouteAction,
  type Route as RouteMessage,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { unpack } from "../proxy/compile/any.ts";
import type { HopResult } from "./hop.ts";
import type { RouteFacts, Step } from "./types.ts";

export function actionSteps({ route }: HopResult, facts: RouteFacts | undefined): Step[] {
  if (route === undefined || facts === undefined) return [];
  const steps: Step[] = [...headerSteps(route)];
  const cors = route.typedPerFilterConfig["envoy.filters.http.cors"];
  const policy = cors && unpack(cors, CorsPolicySchema);
  if (policy)
    steps.push({
      label: "CORS",
      text: `other origins may call: ${policy.allowOriginStringMatch.map(({ matchPattern }) => String(typeof matchPattern.value === "string" ? matchPattern.value : ((matchPattern.value as { regex?: string })?.regex ?? "any"))).join(", ")}`,
    });
  steps.push(...faultSteps(facts));
  const { action } = route;
  if (action.case === "directResponse")
    steps.push({ label: "direct response", text: `status ${action.value.status}, without asking anybody` });
  if (action.case === "redirect") steps.push({ label: "redirect", text: "the client is sent elsewhere" });
  if (action.case === "route") steps.push(...forwardSteps(action.value, facts));
  return steps;
}

function faultSteps({ delayMs, delayPercent, abortPercent }: RouteFacts): Step[] {
  const steps: Step[] = [];
  if (delayMs > 0 && delayPercent > 0)
    steps.push({
      label: "fault",
      text: `delay of ${duration(delayMs)} for ${delayPercent} % of the requests (flag DI)`,
      mark: "warning",
    });
  if (abortPercent > 0)
    steps.push({ label: "fault", text: `abort for ${abortPercent} % of the requests (flag FI)`, mark: "warning" });
  return steps;
}

const duration = (ms: number): string => (ms % 1000 === 0 ? `${ms / 1000} s` : `${ms} ms`);

function headerSteps(route: RouteMessage): Step[] {
  const added = (list: readonly HeaderValueOption[]): string[] =>
    list.map(({ header }) => `${header?.key}: ${header?.value}`);
  const lines: [string, string[]][] = [
    ["request gets", added(route.requestHeadersToAdd)],
    ["request loses", [...route.requestHeadersToRemove]],
    ["answer gets", added(route.responseHeadersToAdd)],
    ["answer loses", [...route.responseHeadersToRemove]],
  ];
  return lines.flatMap(([label, values]) => (values.length === 0 ? [] : [{ label, text: values.join(", ") }]));
}

function forwardSteps(action: RouteAction, facts: RouteFacts): Step[] {
  const steps: Step[] = [];
  const { hostRewriteSpecifier: host, prefixRewrite, regexRewrite } = action;
  if (host.case === "hostRewriteLiteral") steps.push({ label: "rewrite", text: `host becomes ${host.value}` });
  if (prefixRewrite !== "") steps.push({ label: "rewrite", text: `what matched of the path becomes ${prefixRewrite}` });
  if (regexRewrite)
    steps.push({
      label: "rewrite",
      text: `in the path ${regexRewrite.pattern?.regex} becomes ${regexRewrite.substitution}`,
    });
  for (const { host: to, percent } of facts.mirrors)
    steps.push({ label: "mirror", text: `a copy of ${percent} % of the requests to ${to}; its answer is thrown away` });
  steps.push({ label: "timeout", text: facts.timeoutMs > 0 ? duration(facts.timeoutMs) : "none (Istio's default)" });
  const { retries } = facts;
  if (retries === undefined || retries.attempts === 0) steps.push({ label: "retries", text: "none" });
  else {
    const origin = retries.isDefault
      ? " (Istio's hidden default: nothing in the rule says so; attempts: 0 switches it off)"
      : "";
    const perTry = retries.perTryTimeoutMs > 0 ? `, ${duration(retries.perTryTimeoutMs)} each` : "";
    steps.push({ label: "retries", text: `${retries.attempts} more on ${retries.on}${perTry}${origin}` });
  }
  return steps;
}
