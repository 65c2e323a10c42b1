// String, path, header, query and metadata matchers of Envoy's route and policy messages, compiled once into plain functions.

import type { HeaderMatcher, QueryParameterMatcher } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import type { MetadataMatcher } from "#gen/xds/envoy/type/matcher/v3/metadata_pb.js";
import type { StringMatcher } from "#gen/xds/envoy/type/matcher/v3/string_pb.js";
import type { ValueMatcher } from "#gen/xds/envoy/type/matcher/v3/value_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import type { RequestView } from "../http/request.ts";

export type TextTest = (value: string) => boolean;
export type RequestTest = (request: RequestView) => boolean;
/** A request's fields, or an answer's. */
export interface Fields {
  header(name: string): string | undefined;
}
export type FieldTest = (fields: Fields) => boolean;

/** RE2 syntax, linear time, always against the whole string (Envoy: full match). Loaded only when a rule uses it. */
export function compileRegex(pattern: string): TextTest {
  const compiled = compileRe2(pattern);
  return (value) => compiled.matcher(value).matches();
}

/** The RE2 program itself, for substitutions. */
export function compileRe2(pattern: string): import("re2js").RE2JS {
  const { RE2JS } = require("re2js") as typeof import("re2js");
  try {
    return RE2JS.compile(pattern);
  } catch (cause) {
    throw new MeshbedError("REGEX_INVALID", `regular expression ${JSON.stringify(pattern)} is not RE2 syntax`, {
      cause,
    });
  }
}

export function compileString(matcher: StringMatcher): TextTest {
  const { matchPattern, ignoreCase } = matcher;
  switch (matchPattern.case) {
    case "exact":
      return folded(matchPattern.value, ignoreCase, (value, want) => value === want);
    case "prefix":
      return folded(matchPattern.value, ignoreCase, (value, want) => value.startsWith(want));
    case "suffix":
      return folded(matchPattern.value, ignoreCase, (value, want) => value.endsWith(want));
    case "contains":
      return folded(matchPattern.value, ignoreCase, (value, want) => value.includes(want));
    case "safeRegex":
      return compileRegex(matchPattern.value.regex);
    default:
      throw new MeshbedError(
        "MATCHER_UNSUPPORTED",
        `string matcher "${matchPattern.case ?? "empty"}" is not supported`,
      );
  }
}

function folded(want: string, ignoreCase: boolean, test: (value: string, want: string) => boolean): TextTest {
  if (!ignoreCase) return (value) => test(value, want);
  const lower = want.toLowerCase();
  return (value) => test(value.toLowerCase(), lower);
}

/** A header that is absent matches nothing, inverted or not, unless it is to be treated as empty (Envoy). */
export function compileHeader(matcher: HeaderMatcher): FieldTest {
  const name = matcher.name.toLowerCase();
  const { invertMatch, treatMissingHeaderAsEmpty: missingIsEmpty } = matcher;
  const specifier = matcher.headerMatchSpecifier;
  if (specifier.case === "presentMatch" || specifier.case === undefined) {
    const wanted = (specifier.case === undefined || specifier.value) !== invertMatch;
    return (request) => (request.header(name) !== undefined) === wanted;
  }
  const test = compileHeaderValue(specifier);
  return (request) => {
    const value = request.header(name) ?? (missingIsEmpty ? "" : undefined);
    return value !== undefined && test(value) !== invertMatch;
  };
}

function compileHeaderValue(specifier: HeaderMatcher["headerMatchSpecifier"]): TextTest {
  switch (specifier.case) {
    case "exactMatch":
      return (value) => value === specifier.value;
    case "prefixMatch":
      return (value) => value.startsWith(specifier.value);
    case "suffixMatch":
      return (value) => value.endsWith(specifier.value);
    case "containsMatch":
      return (value) => value.includes(specifier.value);
    case "safeRegexMatch":
      return compileRegex(specifier.value.regex);
    case "stringMatch":
      return compileString(specifier.value);
    case "rangeMatch": {
      const { start, end } = specifier.value;
      return (value) => /^-?\d{1,18}$/.test(value) && BigInt(value) >= start && BigInt(value) < end;
    }
    default:
      throw new MeshbedError("MATCHER_UNSUPPORTED", `header matcher "${specifier.case}" is not supported`);
  }
}

export function compileQuery(matcher: QueryParameterMatcher): RequestTest {
  const { name, queryParameterMatchSpecifier: specifier } = matcher;
  if (specifier.case === "stringMatch") {
    const test = compileString(specifier.value);
    return (request) => {
      const value = request.query(name);
      return value !== undefined && test(value);
    };
  }
  const wanted = specifier.case === undefined || specifier.value;
  return (request) => (request.query(name) !== undefined) === wanted;
}

export type ValueTest = (value: unknown) => boolean;

export function compileValue(matcher: ValueMatcher): ValueTest {
  const { matchPattern: pattern } = matcher;
  switch (pattern.case) {
    case "nullMatch":
      return (value) => value === null;
    case "boolMatch":
      return (value) => value === pattern.value;
    case "presentMatch":
      return (value) => (value !== undefined) === pattern.value;
    case "stringMatch": {
      const test = compileString(pattern.value);
      return (value) => typeof value === "string" && test(value);
    }
    case "doubleMatch": {
      const { matchPattern: number } = pattern.value;
      if (number.case === "exact") return (value) => value === number.value;
      const { start = 0, end = 0 } = number.value ?? {};
      return (value) => typeof value === "number" && value >= start && value < end;
    }
    case "listMatch": {
      const { matchPattern: list } = pattern.value;
      if (list.case !== "oneOf") break;
      const test = compileValue(list.value);
      return (value) => Array.isArray(value) && value.some(test);
    }
    case "orMatch": {
      const tests = pattern.value.valueMatchers.map(compileValue);
      return (value) => tests.some((test) => test(value));
    }
  }
  throw new MeshbedError("MATCHER_UNSUPPORTED", `value matcher "${pattern.case ?? "empty"}" is not supported`);
}

/** On dynamic metadata: `metadata` gives what is there under a filter's name. */
export function compileMetadata(matcher: MetadataMatcher): (metadata: (filter: string) => unknown) => boolean {
  const { filter, path, value, invert } = matcher;
  if (value === undefined) throw new MeshbedError("MATCHER_UNSUPPORTED", `metadata matcher on ${filter} has no value`);
  const test = compileValue(value);
  const keys = path.map(({ segment }) => segment.value ?? "");
  return (metadata) => {
    let at = metadata(filter);
    for (const key of keys)
      at =
        typeof at === "object" && at !== null && Object.hasOwn(at, key)
          ? (at as Record<string, unknown>)[key]
          : undefined;
    return test(at) !== invert;
  };
}
