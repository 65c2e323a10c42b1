// Rules that Istio's kinds share: hosts, durations, percentages, patterns, destinations (Istio pkg/config/validation).

import { parseDurationMs } from "../duration.ts";
import { child, duplicate, forbidden, inRange, invalid, notSupported, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { dnsLabelProblem } from "../names.ts";
import { missingFields, schemaNamed } from "../schema.ts";

const label = /^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$/;
const firstLabel = /^(\*|(\*|\*-)?[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)$/;
const hostLengthMax = 255;
/** Envoy bounds the size of a program; its pattern is never longer. */
const regexLengthMax = 1024;

export function isIPv4(text: string): boolean {
  return /^(\d{1,3})(\.\d{1,3}){3}$/.test(text) && text.split(".").every((part) => Number(part) <= 255);
}
const isIPv6 = (text: string): boolean => text.includes(":") && /^[0-9a-fA-F:.]+$/.test(text);
export const isAddress = (text: string): boolean => isIPv4(text) || isIPv6(text);

/** Why `host` is neither a DNS name nor one with a wildcard in its first label; undefined when it is. */
export function hostProblem(host: string): string | undefined {
  if (host === "") return "empty domain name not allowed";
  if (host.length > hostLengthMax) return `domain name ${JSON.stringify(host)} too long (max ${hostLengthMax})`;
  const [first = "", ...rest] = host.replace(/\.$/, "").split(".");
  for (const [i, part] of [first, ...rest].entries())
    if (part.length > 63 || !(i === 0 ? firstLabel : label).test(part))
      return `domain name ${JSON.stringify(host)} invalid (label ${JSON.stringify(part)} invalid)`;
  return undefined;
}

export function validateHost(host: string | undefined, path: string): FieldError[] {
  if (!host) return [required(path)];
  const problem = hostProblem(host);
  return problem === undefined ? [] : [invalid(path, host, problem)];
}

/** At least a millisecond, and no finer. */
export function validateDuration(text: string | undefined, path: string): FieldError[] {
  if (text === undefined) return [];
  const durationMs = parseDurationMs(text);
  if (durationMs === undefined) return [invalid(path, text, "must be a valid duration such as 1.5s, 250ms or 1h")];
  if (durationMs < 1) return [invalid(path, text, "must be a valid duration greater than 1ms")];
  return Number.isInteger(durationMs) ? [] : [invalid(path, text, "only durations to ms precision are supported")];
}

/** 0, or at least what Envoy can express (a millionth). */
export function validateFraction(value: number | undefined, path: string): FieldError[] {
  if (value === undefined || value === 0 || (value >= 0.0001 && value <= 100)) return [];
  return [invalid(path, value, `percentage ${value} is neither 0.0, nor in range [0.0001, 100.0]`)];
}

export function validatePercent(value: number | undefined, path: string): FieldError[] {
  if (value === undefined || (value >= 0 && value <= 100)) return [];
  return [invalid(path, value, `percentage ${value} is not in range 0..100`)];
}

/** Istio's patterns are RE2; what JavaScript alone understands is refused. */
export function validateRegex(pattern: string, path: string): FieldError[] {
  if (pattern === "") return [invalid(path, pattern, "regex string match should not be empty")];
  if (pattern.length > regexLengthMax)
    return [invalid(path, pattern, `regex is too large, max length allowed is ${regexLengthMax}`)];
  // Loaded on first use: few configurations have patterns.
  const { RE2JS } = require("re2js") as typeof import("re2js");
  try {
    RE2JS.compile(pattern);
    return [];
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    return [
      invalid(
        path,
        pattern,
        `${problem}; Istio uses RE2 style regex-based match (https://github.com/google/re2/wiki/Syntax)`,
      ),
    ];
  }
}

/** A protobuf oneof: at most one of the fields may be there. */
export function exclusive(object: object | undefined, path: string, names: readonly string[]): FieldError[] {
  const present = names.filter((name) => (object as Record<string, unknown> | undefined)?.[name] !== undefined);
  return present.slice(1).map((name) => forbidden(child(path, name), `may not be set together with ${present[0]}`));
}

interface StringMatch {
  exact?: string;
  prefix?: string;
  regex?: string;
}

export function validateStringMatch(match: StringMatch | undefined, path: string): FieldError[] {
  if (match === undefined) return [];
  const errors = exclusive(match, path, ["exact", "prefix", "regex"]);
  if (match.prefix === "") errors.push(invalid(child(path, "prefix"), "", "prefix string match should not be empty"));
  if (match.regex !== undefined) errors.push(...validateRegex(match.regex, child(path, "regex")));
  return errors;
}

export const unixPrefix = "unix://";

/** A socket's absolute path, or the name of an abstract one. */
export function validateUnixPath(address: string, path: string): FieldError[] {
  const name = address.slice(unixPrefix.length);
  if (name === "") return [required(path, "unix address must not be empty")];
  if (name.startsWith("@") || (name.startsWith("/") && !name.endsWith("/"))) return [];
  return [invalid(path, address, "is not an absolute path to a file")];
}

/** An address, or one with the length of its prefix. */
export function isSubnet(text: string): boolean {
  const [address = "", bits, ...rest] = text.split("/");
  if (rest.length > 0 || !isAddress(address)) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (isIPv4(address) ? 32 : 128));
}

/** A host name without a wildcard. */
export function fqdnProblem(host: string): string | undefined {
  return host.includes("*")
    ? `domain name ${JSON.stringify(host)} invalid (wildcards are not allowed)`
    : hostProblem(host);
}

/** Protocols of ports as Istio names them. */
const portProtocols = new Set([
  "GRPC",
  "GRPC-WEB",
  "HTTP",
  "HTTP2",
  "HTTPS",
  "HTTP_PROXY",
  "HBONE",
  "MONGO",
  "MYSQL",
  "REDIS",
  "TCP",
  "TLS",
  "UDP",
  "DOUBLE_HBONE",
]);

export function validateProtocol(protocol: string | undefined, path: string): FieldError[] {
  return !protocol || portProtocols.has(protocol.toUpperCase())
    ? []
    : [notSupported(path, protocol, [...portProtocols])];
}

export function validatePortName(name: string | undefined, path: string): FieldError[] {
  const problem = dnsLabelProblem(name ?? "");
  return problem === undefined ? [] : [invalid(path, name, problem)];
}

/** Workload labels: no empty key, no wildcard. */
export function validateSelectorLabels(labels: Record<string, string> | undefined, path: string): FieldError[] {
  return Object.entries(labels ?? {}).flatMap(([key, value]) => {
    const at = `${path}[${key}]`;
    if (key === "") return [required(at, "empty key is not supported in selector")];
    return key.includes("*") || value.includes("*")
      ? [invalid(at, `${key}=${value}`, "wildcard is not supported in selector")]
      : [];
  });
}

/** What Envoy would take for a header's value: a lone % begins a variable. */
export function headerValueProblem(value: string): string | undefined {
  if (/[\0-\x08\x0a-\x1f\x7f]/.test(value)) return "header value configuration is invalid: control characters";
  for (let i = value.indexOf("%"); i >= 0; i = value.indexOf("%", i)) {
    if (value[i + 1] === "%") {
      i += 2;
      continue;
    }
    const variable =
      /^%[^%(]+(\((\[\s*"(\\.|[^"\\])*"(\s*,\s*"(\\.|[^"\\])*")*\s*\]|(\\.|[^)\\])*)\s*\)\s*)?(:\d+)?%/.exec(
        value.slice(i),
      );
    if (variable === null)
      return i === value.length - 1
        ? "invalid header configuration. Un-escaped % (write %% for a percent sign)"
        : `invalid header configuration. Un-terminated variable expression '${value.slice(i)}' (write %% for a percent sign)`;
    i += variable[0].length;
  }
  return undefined;
}

/** The name of a header (an HTTP token), or a pseudo header such as :path. */
export function validateHeaderName(name: string, path: string): FieldError[] {
  if (name === "") return [invalid(path, name, "header name cannot be empty")];
  if (!/^:?[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(name))
    return [invalid(path, name, `header name ${JSON.stringify(name)} is not a valid header name`)];
  return [];
}

/** "@request.auth.claims.sub", "@request.auth.claims[realm][role]": matches a claim of a validated token. */
export const isClaim = (name: string): boolean =>
  /^@request\.auth\.claims((\.[^\s.[\]]+)+|(\[[^\s[\]]+\])+)$/i.test(name);

interface Destination {
  host?: string;
  subset?: string;
  port?: { number?: number };
}

export function validateDestination(destination: Destination | undefined, path: string): FieldError[] {
  if (destination === undefined) return [required(path)];
  const errors =
    destination.host === "*"
      ? [invalid(child(path, "host"), "*", "invalid destination host *")]
      : validateHost(destination.host, child(path, "host"));
  if (destination.subset) {
    const problem = dnsLabelProblem(destination.subset);
    if (problem !== undefined) errors.push(invalid(child(path, "subset"), destination.subset, problem));
  }
  if (destination.port !== undefined)
    errors.push(...inRange(child(path, "port", "number"), destination.port.number ?? 0, 1, 65535));
  return errors;
}

/** Shares of traffic: none negative, and not all zero where there are several. */
export function validateWeights(routes: readonly { weight?: number }[], path: string): FieldError[] {
  const errors: FieldError[] = [];
  let total = 0;
  routes.forEach(({ weight = 0 }, i) => {
    if (weight < 0) errors.push(invalid(child(path, i, "weight"), weight, `weight ${weight} < 0`));
    total += weight;
  });
  if (routes.length > 1 && total === 0) errors.push(invalid(path, total, "total destination weight = 0"));
  return errors;
}

/** ".", "*" or namespaces, each once; "*" stands alone. "~" (nobody) is for ServiceEntries. */
export function validateExportTo(
  exportTo: readonly string[] | undefined,
  options: { namespace?: string | undefined; allowNone?: boolean } = {},
): FieldError[] {
  const errors: FieldError[] = [];
  const path = "spec.exportTo";
  const named = exportTo?.map((each) => (each === "." ? (options.namespace ?? each) : each));
  exportTo?.forEach((namespace, i) => {
    if (named!.indexOf(named![i]!) !== i) errors.push(duplicate(child(path, i), namespace));
    if (namespace === "." || namespace === "*" || (namespace === "~" && options.allowNone)) return;
    const problem = dnsLabelProblem(namespace);
    if (problem !== undefined) errors.push(invalid(child(path, i), namespace, problem));
  });
  if (exportTo !== undefined && exportTo.length > 1 && exportTo.some((each) => each === "*" || each === "~"))
    errors.push(invalid(path, exportTo, "cannot have both public (*) or none (~) and other values"));
  return errors;
}

/** What the schema of the custom resource demands, whose `spec` is optional by itself. */
export function validateRequired(object: { spec?: unknown }, schemaName: string): FieldError[] {
  if (object.spec === undefined) return [required("spec")];
  const { spec } = schemaNamed(schemaName).properties ?? {};
  return spec === undefined ? [] : missingFields(object.spec, spec, "spec");
}
