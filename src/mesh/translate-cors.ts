// corsPolicy of a VirtualService → the cors filter's setting for a route (Istio: TranslateCORSPolicy). Pure.

import { create } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { CorsPolicySchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { type StringMatcher, StringMatcherSchema } from "#gen/xds/envoy/type/matcher/v3/string_pb.js";
import { parseDurationMs } from "../api/duration.ts";
import { pack, percentOf } from "./envoy.ts";
import type { HttpRule, StringMatch } from "./types.ts";

/** The fields without the library's spelled-out oneofs. */
interface Cors {
  allowOrigins?: readonly StringMatch[];
  /** Deprecated: exact values; not looked at when there are allowOrigins. */
  allowOrigin?: readonly string[];
  allowMethods?: readonly string[];
  allowHeaders?: readonly string[];
  exposeHeaders?: readonly string[];
  allowCredentials?: boolean;
  maxAge?: string;
  unmatchedPreflights?: string;
}

export function corsOf(rule: HttpRule): Any | undefined {
  const cors = rule.corsPolicy as Cors | undefined;
  if (cors === undefined) return undefined;
  const origins = cors.allowOrigins ?? (cors.allowOrigin ?? []).map((exact): StringMatch => ({ exact }));
  const maxAgeMs = cors.maxAge === undefined ? undefined : parseDurationMs(cors.maxAge);
  const preflights = cors.unmatchedPreflights;
  return pack(CorsPolicySchema, {
    allowOriginStringMatch: origins.map(originMatcher),
    allowMethods: (cors.allowMethods ?? []).join(","),
    allowHeaders: (cors.allowHeaders ?? []).join(","),
    exposeHeaders: (cors.exposeHeaders ?? []).join(","),
    ...(cors.allowCredentials !== undefined && { allowCredentials: cors.allowCredentials }),
    ...(maxAgeMs !== undefined && { maxAge: String(Math.trunc(maxAgeMs / 1000)) }),
    // Unset, it is the proxy's default: they go to the application.
    ...(preflights === "FORWARD" && { forwardNotMatchingPreflights: true }),
    ...(preflights === "IGNORE" && { forwardNotMatchingPreflights: false }),
    enabledSpecifier: { case: "filterEnabled", value: { defaultValue: percentOf(100) } },
  });
}

/** Unlike elsewhere, the regular expression "*" is no wildcard. */
function originMatcher({ exact, prefix, regex }: StringMatch): StringMatcher {
  if (regex !== undefined)
    return create(StringMatcherSchema, { matchPattern: { case: "safeRegex", value: { regex } } });
  return create(StringMatcherSchema, {
    matchPattern: prefix !== undefined ? { case: "prefix", value: prefix } : { case: "exact", value: exact ?? "" },
  });
}
