// Delegation between VirtualServices: a root's rule takes the rules of another, narrowed by its own match (Istio: mergeVirtualServicesIfNeeded). Pure.

import { isVisible, resolveGateway, resolveHost } from "./hosts.ts";
import { ruleSource } from "./rule-source.ts";
import type { HttpRule, OwnedRule, RuleSet, RuleSetIssue, StringMatch } from "./types.ts";

/** The fields without the library's spelled-out oneofs. */
interface Match {
  name?: string;
  uri?: StringMatch;
  scheme?: StringMatch;
  method?: StringMatch;
  authority?: StringMatch;
  headers?: Record<string, StringMatch>;
  withoutHeaders?: Record<string, StringMatch>;
  queryParams?: Record<string, StringMatch>;
  ignoreUriCase?: boolean;
  port?: number;
  sourceLabels?: Record<string, string>;
  sourceNamespace?: string;
  statPrefix?: string;
  gateways?: string[];
}

export const isRoot = ({ object }: RuleSet): boolean =>
  object.spec?.http?.some(({ delegate }) => delegate !== undefined) ?? false;

/** Keys of the VirtualServices a root leads to. */
export const delegateKeys = ({ object, namespace }: RuleSet): string[] =>
  (object.spec?.http ?? []).flatMap(({ delegate }) => (delegate ? [keyOf(delegate, namespace)] : []));

const keyOf = (delegate: NonNullable<HttpRule["delegate"]>, namespace: string): string =>
  `${delegate.namespace || namespace}/${delegate.name ?? ""}`;

/** The root's rules with those of its delegates in their places; what cannot be taken is left out and said. */
export function mergeDelegates(
  root: RuleSet,
  find: (key: string) => RuleSet | undefined,
  clusterDomain: string,
): { http: OwnedRule[]; issues: RuleSetIssue[] } {
  const issues: RuleSetIssue[] = [];
  const http = (root.object.spec?.http ?? []).flatMap((rule, index): OwnedRule[] => {
    const source = ruleSource("virtual-service", root.object.metadata, `spec.http[${index}]`);
    if (rule.delegate === undefined) return [{ rule, namespace: root.namespace, source }];
    const field = `spec.http[${index}].delegate`;
    const key = keyOf(rule.delegate, root.namespace);
    const delegate = find(key);
    const say = (reason: RuleSetIssue["reason"], message: string): void => {
      issues.push({ reason, field, message: `${field}: ${message}` });
    };
    if (delegate === undefined || delegate.hosts.length > 0) {
      const what = delegate ? "has hosts of its own, so it is no delegate" : "does not exist";
      say("ReferenceNotFound", `VirtualService ${key} ${what}; the rule matches nothing`);
      return [];
    }
    if (!isVisible(delegate.exportTo, root.namespace)) {
      say("ReferenceNotFound", `VirtualService ${key} is not exported to ${root.namespace}; the rule matches nothing`);
      return [];
    }
    const outer = qualified(rule, root.namespace, clusterDomain);
    return (delegate.object.spec?.http ?? []).flatMap((inner, i) => {
      const merged = inner.delegate === undefined ? mergeRule(outer, qualified(inner, delegate.namespace)) : undefined;
      if (merged !== undefined) {
        const own = ruleSource("virtual-service", delegate.object.metadata, `spec.http[${i}]`);
        const delegated = { ...own, root: `${source.config} ${source.field}` };
        return [{ rule: merged, namespace: delegate.namespace, source: delegated }];
      }
      const why = inner.delegate ? "a delegate may not delegate again" : "its match conflicts with this rule's";
      say("NotCarriedOut", `rule http[${i}] of VirtualService ${key} is left out: ${why}`);
      return [];
    });
  });
  return { http, issues };
}

/** Names in full, as they will stand in a rule of another namespace: gateways, and with a domain the mirrors' hosts. */
function qualified(rule: HttpRule, namespace: string, clusterDomain?: string): HttpRule {
  const match = rule.match?.map((one) => {
    const { gateways } = one as Match;
    return gateways ? { ...one, gateways: gateways.map((name) => resolveGateway(name, namespace)) } : one;
  });
  const result: HttpRule = match ? { ...rule, match } : rule;
  if (clusterDomain === undefined) return result;
  const { mirror, mirrors } = rule;
  const named = <D extends { host: string }>(d: D): D => ({
    ...d,
    host: resolveHost(d.host, namespace, clusterDomain),
  });
  return {
    ...result,
    ...(mirror && { mirror: named(mirror) }),
    ...(mirrors && { mirrors: mirrors.map((one) => ({ ...one, destination: named(one.destination) })) }),
  };
}

/** What a delegate's rule takes over where it says nothing itself. */
const inherited = [
  ...["rewrite", "directResponse", "timeout", "retries", "fault", "mirror", "mirrors", "mirrorPercent"],
  ...["mirrorPercentage", "corsPolicy", "headers"],
];

/** Undefined: their matches conflict. */
function mergeRule(root: HttpRule, delegate: HttpRule): HttpRule | undefined {
  const match = mergeMatches((root.match ?? []) as Match[], (delegate.match ?? []) as Match[]);
  if (match === undefined) return undefined;
  const name = joinNames(root.name, delegate.name);
  const outer = root as Record<string, unknown>;
  const taken = inherited.filter((field) => outer[field] !== undefined).map((field) => [field, outer[field]]);
  return { ...Object.fromEntries(taken), ...delegate, match, ...(name && { name }) } as HttpRule;
}

const joinNames = (root: string | undefined, delegate: string | undefined): string =>
  [root, delegate].filter(Boolean).join("-");

/** Each condition of the delegate has to fit within one of the root's at least; all that do count. */
function mergeMatches(root: readonly Match[], delegate: readonly Match[]): readonly Match[] | undefined {
  if (root.length === 0) return delegate;
  if (delegate.length === 0) return root;
  const merged: Match[] = [];
  for (const inner of delegate) {
    const fitting = root.filter((outer) => !conflicts(outer, inner));
    if (fitting.length === 0) return undefined;
    for (const outer of fitting) merged.push(mergeMatch(outer, inner));
  }
  return merged;
}

function mergeMatch(root: Match, delegate: Match): Match {
  const merged: Match = { ...root, ...delegate };
  for (const field of ["headers", "withoutHeaders", "queryParams"] as const)
    if (root[field] && delegate[field]) merged[field] = { ...root[field], ...delegate[field] };
  if (root.sourceLabels && delegate.sourceLabels)
    merged.sourceLabels = { ...root.sourceLabels, ...delegate.sourceLabels };
  if (!delegate.gateways?.length && root.gateways) merged.gateways = root.gateways;
  const name = joinNames(root.name, delegate.name);
  return name === "" ? merged : { ...merged, name };
}

function conflicts(root: Match, delegate: Match): boolean {
  for (const field of ["uri", "scheme", "method", "authority"] as const)
    if (textsConflict(root[field], delegate[field])) return true;
  for (const field of ["headers", "withoutHeaders", "queryParams"] as const)
    for (const [name, inner] of Object.entries(delegate[field] ?? {}))
      if (textsConflict(root[field]?.[name], inner)) return true;
  if (Boolean(root.ignoreUriCase) !== Boolean(delegate.ignoreUriCase)) return true;
  if (root.port && delegate.port && root.port !== delegate.port) return true;
  if (root.sourceNamespace && delegate.sourceNamespace !== root.sourceNamespace) return true;
  for (const [name, value] of Object.entries(delegate.sourceLabels ?? {}))
    if (root.sourceLabels?.[name] !== undefined && root.sourceLabels[name] !== value) return true;
  if (!root.gateways?.length || !delegate.gateways?.length) return false;
  return delegate.gateways.some((name) => !root.gateways!.includes(name));
}

/** The delegate's may be the narrower one; regular expressions are not compared. */
function textsConflict(root: StringMatch | undefined, delegate: StringMatch | undefined): boolean {
  if (root === undefined || delegate === undefined) return false;
  if (root.regex || delegate.regex) return true;
  if (root.exact) return delegate.exact !== root.exact;
  if (root.prefix) return !(delegate.exact || delegate.prefix || "").startsWith(root.prefix);
  return true;
}
