// Tests in istio-config-validator's format: every combination of authority, method and URI, against the rule of a VirtualService.
// As there, VirtualServices are looked at wherever they are bound, and services need not exist.

import type { KubeObject } from "../api/object.ts";
import type { VirtualService } from "../api/types.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { type Context, createContext } from "./context.ts";
import { explain } from "./explain.ts";
import type { World } from "./types.ts";

export interface ValidatorCase {
  description?: string;
  wantMatch?: boolean;
  request?: { authority?: string[]; method?: string[]; uri?: string[]; headers?: Record<string, string> };
  route?: unknown[];
  redirect?: unknown;
  rewrite?: unknown;
  fault?: unknown;
  headers?: unknown;
  delegate?: unknown;
}

type Rule = Record<string, unknown> & { match?: Record<string, unknown>[] };
const parts = ["redirect", "rewrite", "fault", "headers", "delegate"] as const;
const anyGateway = "meshbed-test/any";
const requestsMax = 10_000;

/** The same VirtualServices, all bound to one gateway that takes every host. */
export function validatorContext(world: World): Context {
  const meta = (name: string) => ({
    name,
    namespace: "meshbed-test",
    uid: name,
    resourceVersion: "1",
    creationTimestamp: "2026-01-01T00:00:00Z",
  });
  const labels = { "meshbed-test": "any" };
  const rebound = world.objects.virtualServices.map((object) => {
    const http = ((object.spec?.http ?? []) as Rule[]).map(({ match, ...rule }) => ({
      ...rule,
      ...(match && { match: match.map(({ gateways: _, ...one }) => one) }),
    }));
    const isDelegate = (object.spec?.hosts ?? []).length === 0;
    return {
      ...object,
      spec: { ...object.spec, http, ...(!isDelegate && { gateways: [anyGateway] }) },
    } as VirtualService;
  });
  const gateway: KubeObject = {
    apiVersion: "networking.istio.io/v1",
    kind: "Gateway",
    metadata: meta("any"),
    spec: { selector: labels, servers: [{ port: { number: 80, name: "http", protocol: "HTTP" }, hosts: ["*/*"] }] },
  };
  const pod: KubeObject = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { ...meta("gateway"), labels },
    spec: { hostNetwork: true, containers: [{ name: "istio-proxy", image: "auto" }] },
    status: { phase: "Running", podIP: "172.20.255.254" },
  };
  const objects = {
    ...world.objects,
    virtualServices: rebound,
    gateways: [gateway as never],
    pods: [...world.objects.pods, pod as never],
    authorizationPolicies: [],
    requestAuthentications: [],
  };
  return createContext({ ...world, objects });
}

export async function runValidatorCase(
  context: Context,
  test: ValidatorCase,
  at: string,
): Promise<{ failures: string[]; requests: number }> {
  const { authority = [], method = [], uri = [], headers = {} } = test.request ?? {};
  for (const [name, list] of Object.entries({ authority, method, uri }))
    if (list.length === 0)
      throw new MeshbedError("TEST_INVALID", `${at}: "${test.description ?? ""}": request.${name} is empty`);
  const failures: string[] = [];
  let requests = 0;
  for (const path of uri)
    for (const host of authority)
      for (const verb of method) {
        if (++requests > requestsMax)
          throw new MeshbedError("TEST_INVALID", `${at}: more than ${requestsMax} requests in one case`);
        const found = await explain(context, {
          method: verb,
          url: `http://${host}${path.startsWith("/") ? path : `/${path}`}`,
          headers: [...Object.entries(headers)],
          from: "meshbed-test/gateway",
        });
        const { rule, root } = ruleOf(context, found.route);
        const differing = difference(test, rule, root);
        if ((differing === undefined) === (test.wantMatch ?? false)) continue;
        const place = found.route ? ` (because ${found.route.at})` : " (no rule matches)";
        failures.push(`${verb} ${host}${path}: ${differing ?? "expected another rule, but it is this one"}${place}`);
      }
  return { failures, requests };
}

function ruleOf(
  { model }: Context,
  route: { object: string; field: string; root?: string } | undefined,
): { rule: Rule | undefined; root: Rule | undefined } {
  const at = (key: string, field: string): Rule | undefined => {
    const [, index] = /^spec\.http\[(\d+)\]/.exec(field) ?? [];
    return model.ruleSets.find((rules) => rules.key === key)?.object.spec?.http?.[Number(index)] as Rule | undefined;
  };
  if (route === undefined) return { rule: undefined, root: undefined };
  const rule = at(route.object.split(" ")[1] ?? "", route.field);
  const [config = "", field = ""] = route.root?.split(" ") ?? [];
  const [, , , , , namespace, , name] = config.split("/");
  return { rule, root: route.root === undefined ? undefined : at(`${namespace}/${name}`, field) };
}

/** Undefined when the rule says what the case does. A delegate's rule takes over what it does not say itself. */
function difference(test: ValidatorCase, rule: Rule | undefined, root: Rule | undefined): string | undefined {
  const told = (part: string): unknown => (part === "delegate" ? root?.[part] : (rule?.[part] ?? root?.[part]));
  if (
    !(test.delegate !== undefined && test.route === undefined) &&
    !Bun.deepEquals(rule?.["route"] ?? [], test.route ?? [])
  )
    return `expected route ${JSON.stringify(test.route ?? [])}, got ${JSON.stringify(rule?.["route"] ?? [])}`;
  for (const part of parts)
    if (test[part] !== undefined && !Bun.deepEquals(test[part], told(part)))
      return `expected ${part} ${JSON.stringify(test[part])}, got ${JSON.stringify(told(part) ?? null)}`;
  return undefined;
}
