// Role based access control (envoy.config.rbac.v3): policies compiled once into tests, and the pure decision on them.

import type { TypedExtensionConfig } from "#gen/xds/envoy/config/core/v3/extension_pb.js";
import { type Permission, type Principal, type RBAC, RBAC_Action } from "#gen/xds/envoy/config/rbac/v3/rbac_pb.js";
import { UriTemplateMatchConfigSchema } from "#gen/xds/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import type { PathMatcher } from "#gen/xds/envoy/type/matcher/v3/path_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import type { ConnectionInfo, Peer } from "../chain.ts";
import { unpack } from "../compile/any.ts";
import type { RequestView } from "../http/request.ts";
import { compileCidr } from "../routing/cidr.ts";
import { compileHeader, compileMetadata, compileString } from "../routing/match.ts";
import { compileUriTemplate } from "../routing/uri_template.ts";

/** What policies look at. On a connection without HTTP `request` is undefined: what asks for one of its fields does not match. */
export interface Subject {
  readonly request: RequestView | undefined;
  readonly connection: ConnectionInfo;
  readonly remoteAddress: string;
  metadata(namespace: string): unknown;
  filterState(key: string): unknown;
}

type Test = (subject: Subject) => boolean;

interface Policy {
  name: string;
  permissions: readonly Test[];
  principals: readonly Test[];
}

export interface Policies {
  action: "allow" | "deny" | "log";
  /** In the order of their names, as Envoy. */
  list: readonly Policy[];
}

export interface Verdict {
  allowed: boolean;
  /** The policy that matched, or "". */
  policy: string;
}

/** ALLOW lets through what matches, DENY the rest, LOG everything. */
export function decide(policies: Policies, subject: Subject): Verdict {
  const matched = policies.list.find(
    ({ permissions, principals }) =>
      permissions.some((test) => test(subject)) && principals.some((test) => test(subject)),
  );
  const { action } = policies;
  const allowed = action === "log" || (action === "allow") === (matched !== undefined);
  return { allowed, policy: matched?.name ?? "" };
}

const actions = { [RBAC_Action.ALLOW]: "allow", [RBAC_Action.DENY]: "deny", [RBAC_Action.LOG]: "log" } as const;

export function compilePolicies(message: RBAC): Policies {
  const list = Object.entries(message.policies).map(([name, policy]): Policy => {
    if (policy.condition !== undefined || policy.checkedCondition !== undefined)
      throw refused(`policy ${name}: conditions (CEL) are not supported`);
    return { name, permissions: policy.permissions.map(permission), principals: policy.principals.map(principal) };
  });
  list.sort((a, b) => (a.name < b.name ? -1 : 1));
  return { action: actions[message.action], list };
}

const refused = (why: string): MeshbedError => new MeshbedError("RBAC_UNSUPPORTED", why);
const always: Test = () => true;

const all =
  (tests: readonly Test[]): Test =>
  (subject) =>
    tests.every((test) => test(subject));
const some =
  (tests: readonly Test[]): Test =>
  (subject) =>
    tests.some((test) => test(subject));
const not =
  (test: Test): Test =>
  (subject) =>
    !test(subject);

function permission({ rule }: Permission): Test {
  switch (rule.case) {
    case "any":
      return always;
    case "andRules":
      return all(rule.value.rules.map(permission));
    case "orRules":
      return some(rule.value.rules.map(permission));
    case "notRule":
      return not(permission(rule.value));
    case "header":
      return header(rule.value);
    case "urlPath":
      return path(rule.value);
    case "uriTemplate":
      return uriTemplate(rule.value);
    case "metadata":
      return metadata(rule.value);
    case "destinationIp": {
      const test = compileCidr(rule.value);
      return ({ connection }) => test(connection.localAddress);
    }
    case "destinationPort":
      return ({ connection }) => connection.localPort === rule.value;
    case "destinationPortRange": {
      const { start, end } = rule.value;
      return ({ connection }) => connection.localPort >= start && connection.localPort < end;
    }
    case "requestedServerName": {
      const test = compileString(rule.value);
      return ({ connection }) => test(connection.serverName);
    }
    default:
      throw refused(`permission "${rule.case ?? "empty"}" is not supported`);
  }
}

function principal({ identifier }: Principal): Test {
  switch (identifier.case) {
    case "any":
      return always;
    case "andIds":
      return all(identifier.value.ids.map(principal));
    case "orIds":
      return some(identifier.value.ids.map(principal));
    case "notId":
      return not(principal(identifier.value));
    case "authenticated": {
      const { principalName } = identifier.value;
      const test = principalName && compileString(principalName);
      return ({ connection: { peer } }) => {
        const names = namesOf(peer);
        return names !== undefined && (!test || names.some(test));
      };
    }
    case "sourceIp":
    case "directRemoteIp": {
      const test = compileCidr(identifier.value);
      return ({ connection }) => test(connection.remoteAddress);
    }
    case "remoteIp": {
      const test = compileCidr(identifier.value);
      return ({ remoteAddress }) => test(remoteAddress);
    }
    case "header":
      return header(identifier.value);
    case "urlPath":
      return path(identifier.value);
    case "metadata":
      return metadata(identifier.value);
    case "filterState":
      return filterState(identifier.value);
    default:
      throw refused(`principal "${identifier.case ?? "empty"}" is not supported`);
  }
}

/** Undefined for who has proved nothing. */
const namesOf = ({ names, authenticated, identity }: Peer): readonly string[] | undefined =>
  names ?? (authenticated ? [identity.principal] : undefined);

function header(matcher: Parameters<typeof compileHeader>[0]): Test {
  const test = compileHeader(matcher);
  return ({ request }) => request !== undefined && test(request);
}

function path({ rule }: PathMatcher): Test {
  if (rule.case !== "path") throw refused("url_path without a path");
  const test = compileString(rule.value);
  return ({ request }) => request !== undefined && test(request.pathOnly);
}

function uriTemplate({ name, typedConfig }: TypedExtensionConfig): Test {
  const config = typedConfig && unpack(typedConfig, UriTemplateMatchConfigSchema);
  if (!config) throw refused(`uri_template ${name} has no UriTemplateMatchConfig`);
  const template = compileUriTemplate(config.pathTemplate);
  return ({ request }) => request !== undefined && template.match(request.pathOnly) !== undefined;
}

function metadata(matcher: Parameters<typeof compileMetadata>[0]): Test {
  const test = compileMetadata(matcher);
  return (subject) => test((namespace) => subject.metadata(namespace));
}

/** Istio's name for who the peer has proved to be. */
const peerPrincipal = "io.istio.peer_principal";

function filterState({ key, matcher }: { key: string; matcher: { case: string | undefined; value?: unknown } }): Test {
  if (matcher.case !== "stringMatch") throw refused(`filter_state ${key} without a string match`);
  const test = compileString(matcher.value as Parameters<typeof compileString>[0]);
  if (key === peerPrincipal) return ({ connection: { peer } }) => peer.authenticated && test(peer.identity.principal);
  return (subject) => {
    const value = subject.filterState(key);
    return typeof value === "string" && test(value);
  };
}
