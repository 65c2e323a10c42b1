// One rule of an AuthorizationPolicy → one RBAC policy: what is asked becomes permissions, who asks principals. Pure.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type Permission,
  PermissionSchema,
  type Principal,
  PrincipalSchema,
} from "#gen/xds/envoy/config/rbac/v3/rbac_pb.js";
import { UriTemplateMatchConfigSchema } from "#gen/xds/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import type { AuthorizationRule, Operation, Source } from "../api/security.ts";
import { escapeRegExp } from "../kernel/regexp.ts";
import { pack } from "./envoy.ts";
import {
  anyOfMatch,
  claimMatch,
  headerMatch,
  hostMatch,
  identityMatch,
  rangeOf,
  regexMatch,
  requestPrincipalMatches,
  stringMatch,
} from "./translate-security-match.ts";
import { withAliases } from "./trust-domains.ts";

export interface RbacPolicy {
  permissions: Permission[];
  principals: Principal[];
}

export interface RuleContext {
  forTcp: boolean;
  /** DENY, AUDIT: what cannot be asked of a connection is left out, so the rule says more; ALLOW: the rule is. */
  lenient: boolean;
  /** Of the policy. */
  namespace: string;
  /** Of the mesh; none: principals are taken as they are written. */
  trustDomains?: readonly string[];
}

const permission = (rule: MessageInitShape<typeof PermissionSchema>["rule"]): Permission =>
  create(PermissionSchema, { rule: rule! });
const principal = (identifier: MessageInitShape<typeof PrincipalSchema>["identifier"]): Principal =>
  create(PrincipalSchema, { identifier: identifier! });

const permissions = {
  any: permission({ case: "any", value: true }),
  and: (rules: Permission[]) => permission({ case: "andRules", value: { rules } }),
  or: (rules: Permission[]) => permission({ case: "orRules", value: { rules } }),
  not: (rule: Permission) => permission({ case: "notRule", value: rule }),
};
const principals = {
  any: principal({ case: "any", value: true }),
  and: (ids: Principal[]) => principal({ case: "andIds", value: { ids } }),
  or: (ids: Principal[]) => principal({ case: "orIds", value: { ids } }),
  not: (id: Principal) => principal({ case: "notId", value: id }),
};

/** Matches nothing: a policy without rules. */
export const never: RbacPolicy = {
  permissions: [permissions.not(permissions.any)],
  principals: [principals.not(principals.any)],
};

/** One thing asked for: one of `values`, none of `notValues`. */
interface Term<T> {
  of: (value: string) => T;
  values: readonly string[] | undefined;
  notValues: readonly string[] | undefined;
  http?: boolean;
}

/** Undefined: the rule can never hold here. */
export function ruleOf(rule: AuthorizationRule, context: RuleContext): RbacPolicy | undefined {
  const { permission: whenPermission, principal: whenPrincipal } = conditionTerms(rule, context);
  const to = (rule.to ?? [{}]).map(({ operation }) =>
    combine(permissions, [...operationTerms(operation ?? {}), ...whenPermission], context),
  );
  const from = (rule.from ?? [{}]).map(({ source }) =>
    combine(principals, [...sourceTerms(source ?? {}, context), ...whenPrincipal], context),
  );
  if (!isWhole(to) || !isWhole(from)) return undefined;
  return { permissions: to, principals: from };
}

const isWhole = <T>(list: readonly (T | undefined)[]): list is T[] => list.every((item) => item !== undefined);

/** All terms together; undefined when one asks for what a connection does not have and that counts as a mismatch. */
function combine<T>(
  kind: { any: T; and: (list: T[]) => T; or: (list: T[]) => T; not: (one: T) => T },
  terms: readonly Term<T>[],
  { forTcp, lenient }: RuleContext,
): T | undefined {
  const all: T[] = [];
  for (const { of, values = [], notValues = [], http } of terms) {
    if (values.length + notValues.length === 0) continue;
    if (http && forTcp) {
      if (lenient) continue;
      return undefined;
    }
    if (values.length > 0) all.push(kind.or(values.map(of)));
    if (notValues.length > 0) all.push(kind.not(kind.or(notValues.map(of))));
  }
  return kind.and(all.length > 0 ? all : [kind.any]);
}

// ---- to ----

function operationTerms(operation: Operation): Term<Permission>[] {
  const { hosts, notHosts, methods, notMethods, paths, notPaths, ports, notPorts } = operation;
  return [
    { of: hostOf, values: hosts, notValues: notHosts, http: true },
    { of: methodOf, values: methods, notValues: notMethods, http: true },
    { of: pathOf, values: paths, notValues: notPaths, http: true },
    { of: portOf, values: ports, notValues: notPorts },
  ];
}

const hostOf = (value: string): Permission => permission({ case: "header", value: hostMatch(value) });
const methodOf = (value: string): Permission => permission({ case: "header", value: headerMatch(":method", value) });
const portOf = (value: string): Permission => permission({ case: "destinationPort", value: Number(value) });

function pathOf(value: string): Permission {
  if (!value.includes("{*}") && !value.includes("{**}"))
    return permission({ case: "urlPath", value: { rule: { case: "path", value: stringMatch(value) } } });
  const pathTemplate = value.replaceAll("{*}", "*").replaceAll("{**}", "**");
  return permission({
    case: "uriTemplate",
    value: { name: "uri-template", typedConfig: pack(UriTemplateMatchConfigSchema, { pathTemplate }) },
  });
}

// ---- from ----

function sourceTerms(source: Source, { namespace, trustDomains }: RuleContext): Term<Principal>[] {
  const { principals: ids, namespaces, serviceAccounts, requestPrincipals, ipBlocks, remoteIpBlocks } = source;
  return [
    identities(ids, source.notPrincipals, trustDomains),
    { of: requestPrincipalOf, values: requestPrincipals, notValues: source.notRequestPrincipals, http: true },
    { of: accountOf(namespace), values: serviceAccounts, notValues: source.notServiceAccounts },
    { of: namespaceOf, values: namespaces, notValues: source.notNamespaces },
    { of: remoteIpOf, values: remoteIpBlocks, notValues: source.notRemoteIpBlocks },
    { of: sourceIpOf, values: ipBlocks, notValues: source.notIpBlocks },
  ];
}

const identities = (
  values: readonly string[] | undefined,
  notValues: readonly string[] | undefined,
  trustDomains: readonly string[] = [],
): Term<Principal> => ({
  of: identityOf,
  values: values && withAliases(values, trustDomains),
  notValues: notValues && withAliases(notValues, trustDomains),
});

const authenticated = (principalName: ReturnType<typeof stringMatch>): Principal =>
  principal({ case: "authenticated", value: { principalName } });

const identityOf = (value: string): Principal => authenticated(identityMatch(value));
const sourceIpOf = (value: string): Principal => principal({ case: "directRemoteIp", value: rangeOf(value) });
const remoteIpOf = (value: string): Principal => principal({ case: "remoteIp", value: rangeOf(value) });

const namespaceOf = (value: string): Principal =>
  authenticated(regexMatch(`.*/ns/${value.split("*").map(escapeRegExp).join(".*")}/.*`));

/** "name" in the policy's namespace, or "namespace/name". */
const accountOf =
  (policyNamespace: string) =>
  (value: string): Principal => {
    const slash = value.indexOf("/");
    const namespace = slash < 0 ? policyNamespace : value.slice(0, slash);
    return authenticated(
      regexMatch(`spiffe://.+/ns/${escapeRegExp(namespace)}/(.+/|)sa/${escapeRegExp(value.slice(slash + 1))}(/.+)?`),
    );
  };

const requestPrincipalOf = (value: string): Principal =>
  principals.and(requestPrincipalMatches(value).map((match) => principal({ case: "metadata", value: match })));

// ---- when ----

function conditionTerms(
  { when = [] }: AuthorizationRule,
  { namespace, trustDomains }: RuleContext,
): { permission: Term<Permission>[]; principal: Term<Principal>[] } {
  const permission: Term<Permission>[] = [];
  const principal: Term<Principal>[] = [];
  for (const { key, values, notValues } of when) {
    const ofPermission = permissionByKey[key] ?? envoyFilterOf(key);
    if (ofPermission) permission.push({ of: ofPermission, values, notValues });
    else if (key === "source.principal") principal.push(identities(values, notValues, trustDomains));
    else {
      const found = principalOf(key, namespace);
      principal.push({ ...found, values, notValues });
    }
  }
  return { permission, principal };
}

const permissionByKey: Readonly<Record<string, (value: string) => Permission>> = {
  "destination.ip": (value) => permission({ case: "destinationIp", value: rangeOf(value) }),
  "destination.port": portOf,
  "connection.sni": (value) => permission({ case: "requestedServerName", value: stringMatch(value) }),
};

/** "experimental.envoy.filters.a.b[c]": metadata c of filter envoy.filters.a.b; a value in brackets is in a list. */
function envoyFilterOf(key: string): ((value: string) => Permission) | undefined {
  const [, filter, path] = /^experimental\.(envoy\.filters\.[^[]+)\[(.+)\]$/.exec(key) ?? [];
  if (filter === undefined || path === undefined) return undefined;
  return (value) => {
    const [, item] = /^\[(.*)\]$/.exec(value) ?? [];
    const match = { matchPattern: { case: "stringMatch", value: stringMatch(item ?? value) } } as const;
    const inList = {
      matchPattern: { case: "listMatch", value: { matchPattern: { case: "oneOf", value: match } } },
    } as const;
    const segment = { segment: { case: "key", value: path } } as const;
    return permission({
      case: "metadata",
      value: { filter, path: [segment], value: item === undefined ? match : inList },
    });
  };
}

function principalOf(key: string, namespace: string): { of: (value: string) => Principal; http?: boolean } {
  switch (key) {
    case "source.ip":
      return { of: sourceIpOf };
    case "remote.ip":
      return { of: remoteIpOf };
    case "source.namespace":
      return { of: namespaceOf };
    case "source.serviceAccount":
      return { of: accountOf(namespace) };
    case "request.auth.principal":
      return { of: requestPrincipalOf, http: true };
    case "request.auth.audiences":
      return { of: claimOf(["aud"]), http: true };
    case "request.auth.presenter":
      return { of: claimOf(["azp"]), http: true };
    default: {
      const names = [...key.matchAll(/\[([^[\]]+)\]/g)].map(([, name]) => name!);
      if (key.startsWith("request.auth.claims")) return { of: claimOf(names), http: true };
      const [header] = names;
      // The API server lets nothing else pass.
      if (!key.startsWith("request.headers") || header === undefined)
        return { of: () => principals.not(principals.any) };
      return { of: (value) => principal({ case: "header", value: headerMatch(header, value) }), http: true };
    }
  }
}

const claimOf =
  (claims: readonly string[]) =>
  (value: string): Principal =>
    principal({ case: "metadata", value: claimMatch(claims, anyOfMatch(stringMatch(value))) });
