// Values of policies → Envoy's matchers: exact, "prefix*", "*suffix", "*", addresses, and claims of a token. Pure.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type CidrRange, CidrRangeSchema } from "#gen/xds/envoy/config/core/v3/address_pb.js";
import { type HeaderMatcher, HeaderMatcherSchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { type MetadataMatcher, MetadataMatcherSchema } from "#gen/xds/envoy/type/matcher/v3/metadata_pb.js";
import { type StringMatcher, StringMatcherSchema } from "#gen/xds/envoy/type/matcher/v3/string_pb.js";
import { type ValueMatcher, ValueMatcherSchema } from "#gen/xds/envoy/type/matcher/v3/value_pb.js";
import { escapeRegExp } from "../kernel/regexp.ts";

const string = (matchPattern: NonNullable<MessageInitShape<typeof StringMatcherSchema>["matchPattern"]>) =>
  create(StringMatcherSchema, { matchPattern });

/** A regular expression (RE2) for the whole text. */
export const regexMatch = (regex: string): StringMatcher => string({ case: "safeRegex", value: { regex } });
const anything = regexMatch(".+");

/** "*" is anything but nothing. */
export function stringMatch(value: string): StringMatcher {
  if (value === "*") return anything;
  if (value.startsWith("*")) return string({ case: "suffix", value: value.slice(1) });
  if (value.endsWith("*")) return string({ case: "prefix", value: value.slice(0, -1) });
  return string({ case: "exact", value });
}

/** SPIFFE ids, which policies write without their scheme. */
export function identityMatch(value: string): StringMatcher {
  const scheme = "spiffe://";
  // Istio takes any text for "*"; here nobody of the mesh has another kind of name.
  if (value === "*") return string({ case: "prefix", value: scheme });
  if (value.startsWith("*"))
    return string({ case: "safeRegex", value: { regex: `${scheme}.*${escapeRegExp(value.slice(1))}` } });
  if (value.endsWith("*")) return string({ case: "prefix", value: scheme + value.slice(0, -1) });
  return string({ case: "exact", value: scheme + value });
}

/** "*": the field is there. */
export function headerMatch(name: string, value: string): HeaderMatcher {
  return create(HeaderMatcherSchema, {
    name,
    headerMatchSpecifier:
      value === "*" ? { case: "presentMatch", value: true } : { case: "stringMatch", value: stringMatch(value) },
  });
}

/** Hosts have no case (CVE-2021-39155). */
export function hostMatch(value: string): HeaderMatcher {
  const match = headerMatch(":authority", value);
  if (match.headerMatchSpecifier.case === "stringMatch") match.headerMatchSpecifier.value.ignoreCase = true;
  return match;
}

/** "10.1.2.3" or "10.0.0.0/8". */
export function rangeOf(value: string): CidrRange {
  const [addressPrefix = "", length] = value.split("/");
  const prefixLen = length === undefined ? (addressPrefix.includes(":") ? 128 : 32) : Number(length);
  return create(CidrRangeSchema, { addressPrefix, prefixLen });
}

// ---- what the JWT filter has found ----

/** Where the JWT filter leaves the claims of a token that is good. */
export const jwtFilterName = "envoy.filters.http.jwt_authn";
export const payloadKey = "payload";

export function claimMatch(claims: readonly string[], value: ValueMatcher): MetadataMatcher {
  return create(MetadataMatcherSchema, {
    filter: jwtFilterName,
    path: [payloadKey, ...claims].map((key) => ({ segment: { case: "key", value: key } as const })),
    value,
  });
}

/** A text, or one in a list of texts: claims may be either. */
export function anyOfMatch(match: StringMatcher): ValueMatcher {
  const one = { matchPattern: { case: "stringMatch", value: match } } as const;
  const inList = {
    matchPattern: { case: "listMatch", value: { matchPattern: { case: "oneOf", value: one } } },
  } as const;
  return create(ValueMatcherSchema, { matchPattern: { case: "orMatch", value: { valueMatchers: [one, inList] } } });
}

const textMatch = (value: StringMatcher): ValueMatcher =>
  create(ValueMatcherSchema, { matchPattern: { case: "stringMatch", value } });

/** "iss/sub" with one star, at the beginning or the end; the issuer may hold slashes, the subject none (Istio: requestPrincipalGenerator). */
export function requestPrincipalMatches(value: string): [issuer: MetadataMatcher, subject: MetadataMatcher] {
  const [issuer, subject] = halvesOf(value);
  return [claimMatch(["iss"], textMatch(issuer)), claimMatch(["sub"], textMatch(subject))];
}

function halvesOf(value: string): [issuer: StringMatcher, subject: StringMatcher] {
  const exact = (text: string) => string({ case: "exact", value: text });
  const slash = value.lastIndexOf("/");
  const [issuer, subject] = slash < 0 ? [value, undefined] : [value.slice(0, slash), value.slice(slash + 1)];
  if (value === "*") return [anything, anything];
  if (value.startsWith("*"))
    return subject === undefined ? [anything, stringMatch(value)] : [stringMatch(issuer), exact(subject)];
  if (value.endsWith("*"))
    return subject === undefined ? [stringMatch(value), anything] : [exact(issuer), stringMatch(subject)];
  return [exact(issuer), exact(subject ?? "")];
}
