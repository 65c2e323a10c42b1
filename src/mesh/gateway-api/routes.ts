// What routes of the Gateway API mean that Istio's language cannot say, put into their Envoy routes. Pure.

import { create } from "@bufbuild/protobuf";
import {
  RouteAction_ClusterNotFoundResponseCode as NotFound,
  type RedirectAction,
  type Route,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { RegexMatchAndSubstituteSchema } from "#gen/xds/envoy/type/matcher/v3/regex_pb.js";
import { escapeRegExp } from "../../kernel/regexp.ts";
import type { HttpRule } from "../types.ts";
import { withoutSlash } from "./convert-filters.ts";
import type { PrefixRedirect } from "./types.ts";

/** `route` was made from a derived rule; it is completed in place. */
export function addGatewaySemantics(route: Route, rule: HttpRule): void {
  const { match, action } = route;
  const prefix = match?.pathSpecifier.case === "prefix" ? withoutSlash(match.pathSpecifier.value) : undefined;
  // "/a" is "/a" and what is below it, not "/ab".
  if (match && prefix) match.pathSpecifier = { case: "pathSeparatedPrefix", value: prefix };
  // What leads nowhere is the server's fault.
  if (action.case === "route") action.value.clusterNotFoundResponseCode = NotFound.INTERNAL_SERVER_ERROR;
  const replacement = (rule.redirect as PrefixRedirect | undefined)?.uriPrefix;
  if (action.case === "redirect" && replacement !== undefined && prefix !== undefined)
    action.value.pathRewriteSpecifier = redirectedPrefix(prefix, withoutSlash(replacement));
}

function redirectedPrefix(prefix: string, start: string): RedirectAction["pathRewriteSpecifier"] {
  if (start !== "" && prefix !== "") return { case: "prefixRewrite", value: start };
  const value = create(RegexMatchAndSubstituteSchema, {
    pattern: { regex: `^${escapeRegExp(prefix)}/*` },
    substitution: `${start.replaceAll("\\", "\\\\")}/`,
  });
  return { case: "regexRewrite", value };
}
