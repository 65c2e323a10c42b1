// The rules of the Gateway API's own validation (patterns, limits and CEL) for routes.

import { child, duplicate, forbidden, inRange, invalid, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import type { GRPCRoute, HTTPRoute, TCPRoute, TLSRoute } from "../types.ts";
import { isLonger, tooMany } from "./gateway-api-scalars.ts";
import { validateShape } from "./gateway-api-validation.ts";
import { validateRegex } from "./istio-rules.ts";

interface Parent {
  group?: string;
  kind?: string;
  namespace?: string;
  name: string;
  sectionName?: string;
  port?: number;
}

interface Backend {
  group?: string;
  kind?: string;
  name: string;
  port?: number;
  weight?: number;
  filters?: Filter[];
}

interface Named {
  name: string;
  value?: string;
  type?: string;
}

interface PathModifier {
  type: string;
  replaceFullPath?: string;
  replacePrefixMatch?: string;
}

interface Filter {
  type: string;
  requestHeaderModifier?: HeaderModifier;
  responseHeaderModifier?: HeaderModifier;
  requestRedirect?: { path?: PathModifier };
  urlRewrite?: { path?: PathModifier };
  requestMirror?: { backendRef?: Backend; percent?: number; fraction?: { numerator: number; denominator?: number } };
  extensionRef?: object;
  externalAuth?: object;
  cors?: { allowOrigins?: string[]; allowMethods?: string[]; allowHeaders?: string[]; maxAge?: number };
}

interface HeaderModifier {
  set?: Named[];
  add?: Named[];
  remove?: string[];
}

interface Match {
  path?: { type?: string; value?: string };
  headers?: Named[];
  queryParams?: Named[];
  method?: string | { type?: string; service?: string; method?: string };
}

interface Rule {
  name?: string;
  matches?: Match[];
  filters?: Filter[];
  backendRefs?: Backend[];
  timeouts?: { request?: string; backendRequest?: string };
  retry?: { codes?: number[]; attempts?: number };
  sessionPersistence?: { type?: string; absoluteTimeout?: string; cookieConfig?: { lifetimeType?: string } };
}

interface RouteSpec {
  parentRefs?: Parent[];
  hostnames?: string[];
  rules?: Rule[];
}

const weightMax = 1_000_000;

function validateParents(parents: readonly Parent[]): FieldError[] {
  const errors = tooMany(parents, "spec.parentRefs", 32);
  const groups = Map.groupBy(parents, ({ group, kind, namespace, name }) =>
    [group ?? "gateway.networking.k8s.io", kind ?? "Gateway", namespace ?? "", name].join("/"),
  );
  for (const same of groups.values()) {
    if (same.length < 2) continue;
    const places = new Set<string>();
    for (const parent of same) {
      const path = child("spec.parentRefs", parents.indexOf(parent));
      const place = `${parent.sectionName ?? ""}:${parent.port ?? ""}`;
      if (!parent.sectionName && !parent.port)
        errors.push(
          required(
            path,
            "sectionName or port must be specified when parentRefs includes 2 or more references to the same parent",
          ),
        );
      else if (places.has(place)) errors.push(duplicate(path, parent.name));
      places.add(place);
    }
  }
  return errors;
}

function validateBackend(backend: Backend, path: string): FieldError[] {
  const errors = inRange(child(path, "weight"), backend.weight, 0, weightMax);
  if ((backend.group ?? "") === "" && (backend.kind ?? "Service") === "Service" && !backend.port)
    errors.push(required(child(path, "port"), "Must have port for Service reference"));
  return errors.concat(validateFilters(backend.filters ?? [], child(path, "filters")));
}

/** Filter type → the field that belongs to it. */
const filterFields: Readonly<Record<string, keyof Filter>> = {
  RequestHeaderModifier: "requestHeaderModifier",
  ResponseHeaderModifier: "responseHeaderModifier",
  RequestRedirect: "requestRedirect",
  URLRewrite: "urlRewrite",
  RequestMirror: "requestMirror",
  ExtensionRef: "extensionRef",
  ExternalAuth: "externalAuth",
  CORS: "cors",
};
/** These may occur several times in one rule. */
const repeatable = new Set(["RequestMirror", "ExtensionRef"]);

function validateFilters(filters: readonly Filter[], path: string): FieldError[] {
  const errors = tooMany(filters, path, 16);
  const types = filters.map(({ type }) => type);
  filters.forEach((filter, i) => {
    const at = child(path, i);
    const own = filterFields[filter.type];
    if (own !== undefined && filter[own] === undefined)
      errors.push(required(child(at, own), `must be specified for ${filter.type} filter.type`));
    for (const [type, field] of Object.entries(filterFields))
      if (field !== own && filter[field] !== undefined)
        errors.push(forbidden(child(at, field), `must be nil if the filter.type is not ${type}`));
    if (!repeatable.has(filter.type) && types.indexOf(filter.type) !== i)
      errors.push(forbidden(child(at, "type"), `${filter.type} filter cannot be repeated`));
    errors.push(...validateFilter(filter, at));
  });
  if (types.includes("RequestRedirect") && types.includes("URLRewrite"))
    errors.push(forbidden(path, "may specify either RequestRedirect or URLRewrite, but not both"));
  return errors;
}

function validateFilter(filter: Filter, path: string): FieldError[] {
  const errors: FieldError[] = [];
  for (const field of ["requestHeaderModifier", "responseHeaderModifier"] as const)
    if (filter[field] !== undefined) errors.push(...validateModifier(filter[field], child(path, field)));
  for (const field of ["requestRedirect", "urlRewrite"] as const) {
    const modifier = filter[field]?.path;
    if (modifier === undefined) continue;
    const at = child(path, field, "path");
    for (const [type, name] of [
      ["ReplaceFullPath", "replaceFullPath"],
      ["ReplacePrefixMatch", "replacePrefixMatch"],
    ] as const) {
      if (modifier.type === type && modifier[name] === undefined)
        errors.push(required(child(at, name), `${name} must be specified when type is set to '${type}'`));
      if (modifier.type !== type && modifier[name] !== undefined)
        errors.push(forbidden(child(at, name), `type must be '${type}' when ${name} is set`));
    }
  }
  const mirror = filter.requestMirror;
  if (mirror !== undefined) errors.push(...validateMirror(mirror, child(path, "requestMirror")));
  if (filter.cors !== undefined) errors.push(...validateCors(filter.cors, child(path, "cors")));
  return errors;
}

function validateMirror(
  { backendRef, percent, fraction }: NonNullable<Filter["requestMirror"]>,
  path: string,
): FieldError[] {
  const errors = backendRef === undefined ? [] : validateBackend(backendRef, child(path, "backendRef"));
  if (percent !== undefined && fraction !== undefined)
    errors.push(
      forbidden(child(path, "fraction"), "Only one of percent or fraction may be specified in HTTPRequestMirrorFilter"),
    );
  errors.push(...inRange(child(path, "percent"), percent, 0, 100));
  if (fraction !== undefined && fraction.numerator > (fraction.denominator ?? 100))
    errors.push(
      invalid(
        child(path, "fraction", "numerator"),
        fraction.numerator,
        "numerator must be less than or equal to denominator",
      ),
    );
  return errors;
}

function validateCors(cors: NonNullable<Filter["cors"]>, path: string): FieldError[] {
  const errors = tooMany(cors.allowOrigins, child(path, "allowOrigins"), 64);
  for (const field of ["allowMethods", "allowHeaders", "allowOrigins"] as const)
    if (cors[field]?.includes("*") && cors[field].length > 1)
      errors.push(invalid(child(path, field), cors[field], `${field} cannot contain '*' alongside other values`));
  if (cors.maxAge !== undefined && cors.maxAge < 1)
    errors.push(invalid(child(path, "maxAge"), cors.maxAge, "must be greater than or equal to 1"));
  return errors;
}

function validateModifier({ set, add, remove }: HeaderModifier, path: string): FieldError[] {
  return [
    ...uniqueNames(set, child(path, "set"), 16, true),
    ...uniqueNames(add, child(path, "add"), 16, true),
    ...tooMany(remove, child(path, "remove"), 16),
  ];
}

function uniqueNames(
  list: readonly Named[] | undefined,
  path: string,
  max: number,
  ignoresCase: boolean,
): FieldError[] {
  const errors = tooMany(list, path, max);
  const seen = new Set<string>();
  list?.forEach(({ name, type, value }, i) => {
    const key = ignoresCase ? name.toLowerCase() : name;
    if (seen.has(key)) errors.push(duplicate(child(path, i, "name"), name));
    seen.add(key);
    if (type === "RegularExpression") errors.push(...validateRegex(value ?? "", child(path, i, "value")));
  });
  return errors;
}

const forbiddenInPath = ["//", "/./", "/../", "%2f", "%2F", "#"];

function validatePath({ type = "PathPrefix", value = "/" }: NonNullable<Match["path"]>, path: string): FieldError[] {
  const at = child(path, "value");
  if (value.length > 1024) return [invalid(at, value, "may not be longer than 1024")];
  if (type === "RegularExpression") return validateRegex(value, at);
  if (!value.startsWith("/"))
    return [
      invalid(at, value, "value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']"),
    ];
  const bad = forbiddenInPath.find((part) => value.includes(part));
  if (bad !== undefined)
    return [invalid(at, value, `must not contain '${bad}' when type one of ['Exact', 'PathPrefix']`)];
  if (value.endsWith("/..") || value.endsWith("/."))
    return [invalid(at, value, "must not end with '/..' or '/.' when type one of ['Exact', 'PathPrefix']")];
  return /^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$/.test(value)
    ? []
    : [invalid(at, value, "must only contain valid characters of a path")];
}

function validateMethod(match: NonNullable<Match["method"]>, path: string): FieldError[] {
  if (typeof match === "string") return [];
  const { type = "Exact", service, method } = match;
  if (!service && !method) return [required(path, "One or both of 'service' or 'method' must be specified")];
  if (type !== "Exact") return [];
  const errors: FieldError[] = [];
  if (service && !/^\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$/i.test(service))
    errors.push(invalid(child(path, "service"), service, "service must only contain valid characters"));
  if (method && !/^[A-Za-z_][A-Za-z_0-9]*$/.test(method))
    errors.push(invalid(child(path, "method"), method, "method must only contain valid characters"));
  return errors;
}

function validateMatch(match: Match, path: string): FieldError[] {
  return [
    ...(match.path === undefined ? [] : validatePath(match.path, child(path, "path"))),
    ...(match.method === undefined ? [] : validateMethod(match.method, child(path, "method"))),
    ...uniqueNames(match.headers, child(path, "headers"), 16, true),
    ...uniqueNames(match.queryParams, child(path, "queryParams"), 16, false),
  ];
}

/** A prefix is replaced where it was matched: by exactly one match. */
function validatePrefixReplacement(rule: Rule, path: string): FieldError[] {
  const errors: FieldError[] = [];
  rule.filters?.forEach(({ type, requestRedirect, urlRewrite }, i) => {
    const modifier = (requestRedirect ?? urlRewrite)?.path;
    if (modifier?.replacePrefixMatch === undefined) return;
    const [only, ...more] = rule.matches ?? [{}];
    if (more.length > 0 || (only?.path?.type ?? "PathPrefix") !== "PathPrefix")
      errors.push(
        invalid(
          child(path, "filters", i),
          type,
          `When using ${type} filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified`,
        ),
      );
  });
  return errors;
}

function validateRule(rule: Rule, path: string): FieldError[] {
  const { matches, filters = [], backendRefs, timeouts, retry, sessionPersistence: session } = rule;
  const errors = [
    ...tooMany(matches, child(path, "matches"), 64),
    ...tooMany(backendRefs, child(path, "backendRefs"), 16),
  ];
  matches?.forEach((match, i) => {
    errors.push(...validateMatch(match, child(path, "matches", i)));
  });
  errors.push(...validateFilters(filters, child(path, "filters")), ...validatePrefixReplacement(rule, path));
  backendRefs?.forEach((backend, i) => {
    errors.push(...validateBackend(backend, child(path, "backendRefs", i)));
  });
  if (backendRefs?.length && filters.some(({ type }) => type === "RequestRedirect"))
    errors.push(
      forbidden(child(path, "backendRefs"), "RequestRedirect filter must not be used together with backendRefs"),
    );
  if (isLonger(timeouts?.backendRequest, timeouts?.request))
    errors.push(
      invalid(
        child(path, "timeouts", "backendRequest"),
        timeouts?.backendRequest,
        "backendRequest timeout cannot be longer than request timeout",
      ),
    );
  retry?.codes?.forEach((code, i) => {
    errors.push(...inRange(child(path, "retry", "codes", i), code, 400, 599));
  });
  if (session?.cookieConfig?.lifetimeType === "Permanent" && !session.absoluteTimeout)
    errors.push(
      required(
        child(path, "sessionPersistence", "absoluteTimeout"),
        "AbsoluteTimeout must be specified when cookie lifetimeType is Permanent",
      ),
    );
  if (session?.cookieConfig !== undefined && session.type === "Header")
    errors.push(
      forbidden(child(path, "sessionPersistence", "cookieConfig"), "cookieConfig can only be set with type Cookie"),
    );
  return errors;
}

const matchesMax = 128;

function validateRoute(spec: RouteSpec, limits: { hostnames: number }): FieldError[] {
  const { parentRefs = [], hostnames, rules = [] } = spec;
  const errors = [
    ...validateParents(parentRefs),
    ...tooMany(hostnames, "spec.hostnames", limits.hostnames),
    ...tooMany(rules, "spec.rules", 16),
  ];
  const names = new Set<string>();
  let matches = 0;
  rules.forEach((rule, i) => {
    const path = child("spec.rules", i);
    matches += rule.matches?.length ?? 0;
    if (rule.name && names.has(rule.name)) errors.push(duplicate(child(path, "name"), rule.name));
    names.add(rule.name ?? "");
    errors.push(...validateRule(rule, path));
  });
  if (matches > matchesMax)
    errors.push(
      invalid("spec.rules", matches, "the total number of matches across all rules in a route must be less than 128"),
    );
  return errors;
}

const schemaOf = (kind: string, version = "v1") => `io.k8s.sigs.gateway-api.apis.${version}.${kind}`;

function routeValidator<T extends { spec?: object }>(kind: string, version?: string) {
  return (object: T): FieldError[] => {
    const shape = validateShape(object.spec, schemaOf(kind, version));
    return shape.length > 0 ? shape : validateRoute((object.spec ?? {}) as RouteSpec, { hostnames: 16 });
  };
}

export const validateHttpRoute = routeValidator<HTTPRoute>("HTTPRoute");
export const validateGrpcRoute = routeValidator<GRPCRoute>("GRPCRoute");

/** Streams go somewhere: every rule has backends. */
function streamValidator<T extends { spec?: object }>(kind: string, version?: string) {
  const validate = routeValidator<T>(kind, version);
  return (object: T): FieldError[] => {
    const errors = validate(object);
    const { rules = [] } = (object.spec ?? {}) as RouteSpec;
    if (rules.length === 0) errors.push(required("spec.rules", "must have at least 1 item"));
    rules.forEach(({ backendRefs }, i) => {
      if (backendRefs?.length === 0)
        errors.push(required(child("spec.rules", i, "backendRefs"), "must have at least 1 item"));
    });
    return errors;
  };
}

export const validateTlsRoute = streamValidator<TLSRoute>("TLSRoute");
export const validateTcpRoute = streamValidator<TCPRoute>("TCPRoute", "v1alpha2");
