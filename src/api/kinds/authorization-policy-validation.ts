// What is wrong with an AuthorizationPolicy (Istio pkg/config/validation ValidateAuthorizationPolicy, security.ValidateAttribute).

import { child, forbidden, invalid, required, tooLong } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import type { AuthorizationRule, Condition } from "../security.ts";
import type { AuthorizationPolicy } from "../types.ts";
import { isAddress, isIPv4, validateRequired } from "./istio-rules.ts";
import { validateAttached } from "./security-rules.ts";

/** Keys of `when`, as Istio lists them. */
const plainKeys = [
  "source.ip",
  "remote.ip",
  "source.namespace",
  "source.principal",
  "source.serviceAccount",
  "request.auth.principal",
  "request.auth.audiences",
  "request.auth.presenter",
  "destination.ip",
  "destination.port",
  "connection.sni",
];
const headerKey = /^request\.headers\[[^[\]]+\]$/;
const claimKey = /^request\.auth\.claims(\[[^[\]]+\])+$/;
const filterKey = /^experimental\.envoy\.filters\.[^[]+\[[^[\]]+\]$/;

/** Lists of these name addresses or ranges of them. */
const rangeFields = ["ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"];
const portFields = ["ports", "notPorts"];

export function validateAuthorizationPolicy(object: AuthorizationPolicy): FieldError[] {
  const missing = validateRequired({ spec: object.spec ?? {} }, "io.istio.security.v1.AuthorizationPolicy");
  if (missing.length > 0) return missing;
  const spec = object.spec ?? {};
  const errors = validateAttached(spec);
  const { action = "ALLOW", provider, rules = [] } = spec;
  if (action === "CUSTOM") {
    if (rules.length === 0) errors.push(required("spec.rules", "CUSTOM action without `rules` is meaningless"));
    if (!provider?.name) errors.push(required("spec.provider.name", "CUSTOM action needs a provider"));
  } else if (provider !== undefined)
    errors.push(forbidden("spec.provider", `must not be with ${action} action, only CUSTOM`));
  if (action === "DENY" && spec.rules === undefined)
    errors.push(required("spec.rules", "DENY action without `rules` is meaningless as it will never be triggered"));
  rules.forEach((rule, i) => {
    const path = child("spec.rules", i);
    errors.push(...validateRule(rule, path));
    if (action === "CUSTOM") errors.push(...notForCustom(rule, path));
  });
  return errors.concat(validateDryRun(object.metadata.annotations?.["istio.io/dry-run"], action));
}

/** The external authorizer is asked before tokens and peers are known. */
function notForCustom({ from, when }: AuthorizationRule, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const says = (name: string) => `${name} is currently not supported with CUSTOM action`;
  from?.forEach(({ source }, i) => {
    for (const field of peerFields)
      if (source?.[field]?.length) errors.push(forbidden(child(path, "from", i, "source", field), says(field)));
  });
  when?.forEach(({ key = "" }, i) => {
    if (key === "source.namespace" || key === "source.principal" || key.startsWith("request.auth."))
      errors.push(forbidden(child(path, "when", i, "key"), says(key)));
  });
  return errors;
}

const peerFields = [
  "namespaces",
  "notNamespaces",
  "principals",
  "notPrincipals",
  "requestPrincipals",
  "notRequestPrincipals",
] as const;

function validateDryRun(value: string | undefined, action: string): FieldError[] {
  const path = "metadata.annotations[istio.io/dry-run]";
  if (value === undefined) return [];
  if (action !== "ALLOW" && action !== "DENY")
    return [forbidden(path, `currently only supports action ALLOW/DENY, found action ${action}`)];
  return /^(1|t|T|TRUE|true|True|0|f|F|FALSE|false|False)$/.test(value)
    ? []
    : [invalid(path, value, "is neither true nor false")];
}
function validateRule({ from, to, when }: AuthorizationRule, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (from?.length === 0) errors.push(required(child(path, "from"), "`from` cannot be empty"));
  if (to?.length === 0) errors.push(required(child(path, "to"), "`to` cannot be empty"));
  from?.forEach(({ source }, i) => {
    errors.push(...validateLists(source, child(path, "from", i, "source")));
    const accounts = source?.serviceAccounts ?? source?.notServiceAccounts;
    const others = ["principals", "notPrincipals", "namespaces", "notNamespaces"] as const;
    if (accounts && others.some((field) => source?.[field]))
      errors.push(
        forbidden(child(path, "from", i, "source"), "serviceAccounts cannot be set with principals or namespaces"),
      );
  });
  to?.forEach(({ operation }, i) => {
    errors.push(...validateLists(operation, child(path, "to", i, "operation")));
  });
  when?.forEach((condition, i) => {
    errors.push(...validateCondition(condition, child(path, "when", i)));
  });
  return errors;
}

/** A source or an operation: something in it, and nothing empty. */
function validateLists(fields: object | undefined, path: string): FieldError[] {
  const entries = Object.entries(fields ?? {}) as [string, string[]][];
  if (entries.length === 0) return [required(path, "must have at least one field set")];
  return entries.flatMap(([name, values]) => {
    const at = child(path, name);
    if (values.length === 0) return [required(at, "cannot be empty list")];
    return values.flatMap((value, i) => validateValue(name, value, child(at, i)));
  });
}

function validateValue(name: string, value: string, path: string): FieldError[] {
  if (value === "") return [required(path, "cannot be empty")];
  if (rangeFields.includes(name) && !isRange(value)) return [invalid(path, value, "invalid CIDR range")];
  if (portFields.includes(name) && !isPort(value)) return [invalid(path, value, "must be between 0 and 65535")];
  if (name === "paths" || name === "notPaths") return validatePath(value, path);
  if (name === "serviceAccounts" || name === "notServiceAccounts") return validateAccount(value, path);
  return [];
}

const accountMax = 320;

function validateAccount(value: string, path: string): FieldError[] {
  if (value.length > accountMax) return [tooLong(path, accountMax)];
  if (/^([^/*]+\/)?[^/*]+$/.test(value)) return [];
  return [invalid(path, value, "must be 'serviceAccount' or 'namespace/serviceAccount', without wildcards")];
}

function validatePath(value: string, path: string): FieldError[] {
  if (!/[{}]/.test(value)) return [];
  const problem = templateProblem(value);
  return problem === undefined ? [] : [invalid(path, value, problem)];
}

/** Templates ({*}, {**}) stand for whole segments, beside literals as Envoy's URI templates allow them. */
function templateProblem(value: string): string | undefined {
  if (!value.startsWith("/")) return "a path template must begin with /";
  let isOpenEnded = false;
  for (const segment of value.replace(/^\/|\/$/g, "").split("/")) {
    if (segment === "{*}" || segment === "{**}") {
      if (isOpenEnded) return '"{**}" is not the last operator';
      isOpenEnded = segment === "{**}";
    } else if (/[{}]/.test(segment)) return 'braces are only for the path templates "{*}" and "{**}"';
    else if (!/^[a-zA-Z0-9\-._~%!$&'()+,;:@]+$/.test(segment))
      return `segment ${JSON.stringify(segment)} is not a literal that may stand beside path templates`;
  }
  return undefined;
}

function isRange(value: string): boolean {
  const [address = "", length, ...rest] = value.split("/");
  if (rest.length > 0 || !isAddress(address)) return false;
  return length === undefined || (/^\d{1,3}$/.test(length) && Number(length) <= (isIPv4(address) ? 32 : 128));
}

const isPort = (value: string): boolean => /^\d{1,5}$/.test(value) && Number(value) <= 65535;

function validateCondition({ key, values, notValues }: Condition, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (!key) return [required(child(path, "key"), "`key` cannot be empty")];
  const isKnown = plainKeys.includes(key) || headerKey.test(key) || claimKey.test(key) || filterKey.test(key);
  if (!isKnown) errors.push(invalid(child(path, "key"), key, `unknown attribute: ${key}`));
  if (!values?.length && !notValues?.length)
    errors.push(required(path, "at least one of `values` or `notValues` must be given"));
  for (const [field, list] of Object.entries({ values, notValues }))
    list?.forEach((value, i) => {
      const at = child(path, field, i);
      if (value === "") errors.push(required(at, "empty value not allowed"));
      if ((key === "source.ip" || key === "remote.ip" || key === "destination.ip") && !isRange(value))
        errors.push(invalid(at, value, "invalid CIDR range"));
      if (key === "source.serviceAccount" && value) errors.push(...validateAccount(value, at));
      if (key === "destination.port" && !isPort(value)) errors.push(invalid(at, value, "must be between 0 and 65535"));
    });
  return errors;
}
