// Header names of VirtualServices that stand for claims of a good token: "@request.auth.claims.a.b" or "…[a][b]" (Istio: jwt.ToRoutingClaim). Pure.

import type { MetadataMatcher } from "#gen/xds/envoy/type/matcher/v3/metadata_pb.js";
import type { StringMatcher } from "#gen/xds/envoy/type/matcher/v3/string_pb.js";
import { anyOfMatch, claimMatch, regexMatch } from "./translate-security-match.ts";

const prefix = "@request.auth.claims";

/** The claim's path; undefined for an ordinary header. Case counts. */
export function routingClaim(name: string): string[] | undefined {
  if (name.slice(0, prefix.length).toLowerCase() !== prefix) return undefined;
  const rest = name.slice(prefix.length);
  if (rest.startsWith(".") && rest.length > 1) return rest.slice(1).split(".");
  return /^(\[[^[\]]+\])+$/.test(rest) ? rest.slice(1, -1).split("][") : undefined;
}

/** `match` undefined: the claim is there. */
export function claimMatcher(
  claim: readonly string[],
  match: StringMatcher | undefined,
  inverted: boolean,
): MetadataMatcher {
  const matcher = claimMatch(claim, anyOfMatch(match ?? regexMatch(".+")));
  matcher.invert = inverted;
  return matcher;
}
