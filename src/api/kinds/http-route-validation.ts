// What is wrong with what an HTTP route of a VirtualService does: rewrite, redirect, answer, fault, retry, mirror, CORS, headers.

import { parseDurationMs } from "../duration.ts";
import { child, forbidden, inRange, invalid, notSupported, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import type { VirtualService } from "../types.ts";
import {
  exclusive,
  headerValueProblem,
  validateDestination,
  validateDuration,
  validateFraction,
  validateHeaderName,
  validatePercent,
  validateRegex,
  validateStringMatch,
} from "./istio-rules.ts";

export type HttpRoute = NonNullable<NonNullable<VirtualService["spec"]>["http"]>[number];

/** Envoy's and gRPC's retry conditions that Istio passes on; a status code is one too. */
const retryConditions = [
  "5xx",
  "cancelled",
  "connect-failure",
  "deadline-exceeded",
  "envoy-ratelimited",
  "gateway-error",
  "http3-post-connect-failure",
  "internal",
  "refused-stream",
  "reset",
  "reset-before-request",
  "resource-exhausted",
  "retriable-4xx",
  "retriable-headers",
  "retriable-status-codes",
  "unavailable",
];

const grpcStatuses = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
];

const corsMethods = ["*", "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/** As Istio bounds the body of a direct response. */
const directBodyBytesMax = 1024 * 1024;

function validateStatus(status: number | undefined, path: string): FieldError[] {
  if (status === undefined || (status >= 200 && status <= 599)) return [];
  return [invalid(path, status, `HTTP status ${status} is not in range 200-599`)];
}

function validateRedirect(route: HttpRoute, path: string): FieldError[] {
  const { redirect } = route;
  if (redirect === undefined) return [];
  const errors: FieldError[] = [];
  const at = child(path, "redirect");
  for (const field of ["fault", "rewrite"] as const)
    if (route[field] !== undefined)
      errors.push(forbidden(child(path, field), `HTTP route cannot contain both ${field} and redirect`));
  if (
    !redirect.uri &&
    !redirect.authority &&
    !redirect.scheme &&
    redirect.port === undefined &&
    redirect.derivePort === undefined
  )
    errors.push(required(at, "redirect must specify URI, authority, scheme, or port"));
  const code = redirect.redirectCode ?? 0;
  if (code !== 0 && (code < 300 || code > 399))
    errors.push(invalid(child(at, "redirectCode"), code, `${code} is not a valid redirect code, must be 3xx`));
  if (redirect.scheme && redirect.scheme !== "http" && redirect.scheme !== "https")
    errors.push(notSupported(child(at, "scheme"), redirect.scheme, ["http", "https"]));
  if (redirect.port !== undefined) errors.push(...inRange(child(at, "port"), redirect.port, 1, 65535));
  return errors.concat(exclusive(redirect, at, ["port", "derivePort"]));
}

function validateRewrite(route: HttpRoute, path: string): FieldError[] {
  const { rewrite } = route;
  if (rewrite === undefined) return [];
  const at = child(path, "rewrite");
  const regex = rewrite.uriRegexRewrite;
  const errors = regex?.match === undefined ? [] : validateRegex(regex.match, child(at, "uriRegexRewrite", "match"));
  if (!rewrite.uri && !rewrite.authority && regex === undefined)
    errors.push(required(at, "rewrite must specify URI, UriRegexRewrite, or authority"));
  if (rewrite.uri && regex !== undefined)
    errors.push(forbidden(child(at, "uriRegexRewrite"), "rewrite may only contain one of URI or UriRegexRewrite"));
  if (regex !== undefined && (!regex.match || !regex.rewrite))
    errors.push(required(child(at, "uriRegexRewrite"), "UriRegexRewrite requires both rewrite and match fields"));
  if (route.directResponse !== undefined)
    errors.push(forbidden(at, "HTTP route cannot contain both rewrite and direct_response"));
  return errors;
}

function validateDirectResponse(route: HttpRoute, path: string): FieldError[] {
  const { directResponse } = route;
  if (directResponse === undefined) return [];
  const at = child(path, "directResponse");
  const errors = validateStatus(directResponse.status, child(at, "status"));
  errors.push(...exclusive(directResponse.body, child(at, "body"), ["string", "bytes"]));
  const { string: text = "", bytes = "" } = directResponse.body ?? {};
  if (Buffer.byteLength(text) > directBodyBytesMax || (bytes.length / 4) * 3 > directBodyBytesMax)
    errors.push({
      field: child(at, "body"),
      reason: "FieldValueTooLong",
      message: `Too long: may not be more than ${directBodyBytesMax} bytes`,
    });
  return errors;
}

function validateFault(route: HttpRoute, path: string): FieldError[] {
  const { fault } = route;
  if (fault === undefined) return [];
  const errors: FieldError[] = [];
  const at = child(path, "fault");
  const { abort, delay } = fault;
  if (abort === undefined && delay === undefined)
    errors.push(required(at, "HTTP fault injection must have an abort and/or a delay"));
  if (abort !== undefined) {
    const here = child(at, "abort");
    if (abort.http2Error !== undefined)
      errors.push(forbidden(child(here, "http2Error"), "HTTP/2 abort fault injection not supported yet"));
    errors.push(...exclusive(abort, here, ["httpStatus", "grpcStatus", "http2Error"]));
    errors.push(...validateStatus(abort.httpStatus, child(here, "httpStatus")));
    if (abort.grpcStatus !== undefined && !grpcStatuses.includes(abort.grpcStatus))
      errors.push(notSupported(child(here, "grpcStatus"), abort.grpcStatus, grpcStatuses));
    errors.push(...validateFraction(abort.percentage?.value, child(here, "percentage", "value")));
  }
  if (delay !== undefined) {
    const here = child(at, "delay");
    if (delay.exponentialDelay !== undefined)
      errors.push(forbidden(child(here, "exponentialDelay"), "exponentialDelay not supported yet"));
    else if (delay.fixedDelay === undefined) errors.push(required(child(here, "fixedDelay")));
    errors.push(...exclusive(delay, here, ["fixedDelay", "exponentialDelay"]));
    errors.push(...validateDuration(delay.fixedDelay, child(here, "fixedDelay")));
    errors.push(...validateFraction(delay.percentage?.value, child(here, "percentage", "value")));
    errors.push(...validatePercent(delay.percent, child(here, "percent")));
  }
  return errors;
}

function validateRetries(route: HttpRoute, path: string): FieldError[] {
  const { retries } = route;
  if (retries === undefined) return [];
  const errors: FieldError[] = [];
  const at = child(path, "retries");
  const attempts = retries.attempts ?? 0;
  if (attempts < 0) errors.push(invalid(child(at, "attempts"), attempts, "attempts cannot be negative"));
  if (
    attempts === 0 &&
    (retries.perTryTimeout !== undefined || retries.retryOn || retries.retryRemoteLocalities !== undefined)
  )
    errors.push(
      invalid(child(at, "attempts"), attempts, "http retry policy configured when attempts are set to 0 (disabled)"),
    );
  errors.push(...validateDuration(retries.perTryTimeout, child(at, "perTryTimeout")));
  errors.push(...validateDuration(retries.backoff, child(at, "backoff")));
  for (const each of (retries.retryOn ?? "").split(",")) {
    const condition = each.trim();
    if (condition === "" || retryConditions.includes(condition)) continue;
    const isStatus = /^\d{3}$/.test(condition) && Number(condition) >= 200 && Number(condition) <= 599;
    if (!isStatus)
      errors.push(
        invalid(child(at, "retryOn"), condition, `${JSON.stringify(condition)} is not a valid retryOn policy`),
      );
  }
  return errors;
}

function validateMirrors(route: HttpRoute, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (route.mirror !== undefined) {
    errors.push(...validateDestination(route.mirror, child(path, "mirror")));
    if (route.mirrors?.length)
      errors.push(forbidden(child(path, "mirrors"), "HTTP route cannot contain both mirror and mirrors"));
  }
  errors.push(...validatePercent(route.mirrorPercentage?.value, child(path, "mirrorPercentage", "value")));
  route.mirrors?.forEach((mirror, i) => {
    const at = child(path, "mirrors", i);
    errors.push(...validateDestination(mirror.destination, child(at, "destination")));
    errors.push(...validatePercent(mirror.percentage?.value, child(at, "percentage", "value")));
  });
  return errors;
}

function validateCors(route: HttpRoute, path: string): FieldError[] {
  const cors = route.corsPolicy;
  if (cors === undefined) return [];
  const errors: FieldError[] = [];
  const at = child(path, "corsPolicy");
  cors.allowOrigins?.forEach((origin, i) => {
    const here = child(at, "allowOrigins", i);
    const text = (origin as { exact?: string; prefix?: string; regex?: string }) ?? {};
    if (!text.exact && !text.prefix && !text.regex)
      errors.push(invalid(here, origin, "is not a valid match type for CORS allow origins"));
    else errors.push(...validateStringMatch(origin, here));
  });
  cors.allowMethods?.forEach((method, i) => {
    if (!corsMethods.includes(method)) errors.push(notSupported(child(at, "allowMethods", i), method, corsMethods));
  });
  for (const field of ["allowHeaders", "exposeHeaders"] as const)
    cors[field]?.forEach((name, i) => {
      if (name !== "*") errors.push(...validateHeaderName(name, child(at, field, i)));
    });
  errors.push(...validateDuration(cors.maxAge, child(at, "maxAge")));
  if (cors.maxAge !== undefined && (parseDurationMs(cors.maxAge) ?? 0) % 1000 !== 0)
    errors.push(invalid(child(at, "maxAge"), cors.maxAge, "max_age duration is accurate only to seconds precision"));
  return errors;
}

type Headers = NonNullable<HttpRoute["headers"]>;

const isAuthority = (name: string): boolean => /^(:authority|host)$/i.test(name);

function validateHeaders(headers: Headers | undefined, path: string): FieldError[] {
  const errors: FieldError[] = [];
  for (const side of ["request", "response"] as const) {
    const changes = headers?.[side];
    for (const action of ["add", "set"] as const)
      for (const [name, value] of Object.entries(changes?.[action] ?? {})) {
        const at = `${child(path, side, action)}[${name}]`;
        errors.push(...headerOperation(name, at, side === "request"));
        const problem = headerValueProblem(value);
        if (problem !== undefined) errors.push(invalid(at, value, problem));
      }
    changes?.remove?.forEach((name, i) => {
      errors.push(...headerOperation(name, child(path, side, "remove", i), false));
    });
  }
  return errors;
}

/** Of the fields that make up a message only the request's authority may be changed. */
function headerOperation(name: string, path: string, mayBeAuthority: boolean): FieldError[] {
  if (isAuthority(name))
    return mayBeAuthority ? [] : [invalid(path, name, `invalid header "${name}": cannot set Host header`)];
  if (name.startsWith(":")) return [invalid(path, name, `invalid header "${name}": header cannot have ":" prefix`)];
  return validateHeaderName(name, path);
}

/** The authority is rewritten in one place. */
function validateAuthority(route: HttpRoute, path: string): FieldError[] {
  const { set = {}, add = {} } = route.headers?.request ?? {};
  const places = [
    ...(route.rewrite?.authority ? [[child(path, "rewrite", "authority"), route.rewrite.authority] as const] : []),
    ...Object.entries(set).map(([name, value]) => [`${path}.headers.request.set[${name}]`, value, name] as const),
    ...Object.entries(add).map(([name, value]) => [`${path}.headers.request.add[${name}]`, value, name] as const),
  ].filter(([, , name]) => name === undefined || isAuthority(name));
  return places
    .slice(1)
    .map(([at, value]) =>
      forbidden(
        at,
        `authority header cannot be set multiple times: have "${places[0]![1]}", attempting to set "${value}"`,
      ),
    );
}

export function validateHttpActions(route: HttpRoute, path: string): FieldError[] {
  const errors = [
    ...validateRedirect(route, path),
    ...validateRewrite(route, path),
    ...validateAuthority(route, path),
    ...validateDirectResponse(route, path),
    ...validateFault(route, path),
    ...validateRetries(route, path),
    ...validateMirrors(route, path),
    ...validateCors(route, path),
    ...validateDuration(route.timeout, child(path, "timeout")),
    ...validateHeaders(route.headers, child(path, "headers")),
  ];
  route.route?.forEach(({ headers }, i) => {
    errors.push(...validateHeaders(headers, child(path, "route", i, "headers")));
  });
  return errors;
}
