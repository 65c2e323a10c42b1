// Envoy's path rewrites and redirects → functions on a request's path, or from a request to a Location.

import type { TypedExtensionConfig } from "#gen/xds/envoy/config/core/v3/extension_pb.js";
import {
  RedirectAction_RedirectResponseCode as RedirectCode,
  type RedirectAction as RedirectMessage,
  type RouteMatch,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { UriTemplateRewriteConfigSchema } from "#gen/xds/envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite_pb.js";
import type { RegexMatchAndSubstitute } from "#gen/xds/envoy/type/matcher/v3/regex_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { compileRe2 } from "../routing/match.ts";
import type { RedirectAction } from "../routing/route.ts";
import { compileTemplateRewrite } from "../routing/uri_template.ts";
import { unpack } from "./any.ts";
import { compileTemplateMatch } from "./match.ts";

/** From path and query to path and query. */
export type PathRewrite = (path: string) => string;

export interface RewriteRules {
  prefixRewrite: string;
  regexRewrite: RegexMatchAndSubstitute | undefined;
  policy: TypedExtensionConfig | undefined;
}

/** Undefined: the path stays. */
export function compilePathRewrite(rules: RewriteRules, match: RouteMatch): PathRewrite | undefined {
  const { prefixRewrite, regexRewrite, policy } = rules;
  if ([prefixRewrite !== "", regexRewrite !== undefined, policy !== undefined].filter(Boolean).length > 1)
    throw new MeshbedError(
      "ROUTE_INVALID",
      "only one of prefix_rewrite, regex_rewrite and path_rewrite_policy is possible",
    );
  if (regexRewrite) return onPath(compileSubstitution(regexRewrite));
  if (policy) return onPath(compileTemplate(policy, match));
  if (prefixRewrite === "") return undefined;
  const { pathSpecifier: specifier } = match;
  if (specifier.case !== "prefix" && specifier.case !== "pathSeparatedPrefix" && specifier.case !== "path")
    throw new MeshbedError("ROUTE_INVALID", "prefix_rewrite needs a prefix or path match");
  const { length } = specifier.value;
  return (path) => {
    const rewritten = prefixRewrite + path.slice(length);
    return rewritten.startsWith("/") ? rewritten : `/${rewritten}`;
  };
}

/** Every match is replaced; \0 to \9 in the substitution stand for groups. */
export function compileSubstitution({ pattern, substitution }: RegexMatchAndSubstitute): (text: string) => string {
  const program = compileRe2(pattern?.regex ?? "");
  const parts = (substitution.match(/\\.|[^\\]+/gs) ?? []).map((part) =>
    /^\\\d$/.test(part) ? Number(part[1]) : part.replace(/^\\/, ""),
  );
  const groupsMax = program.groupCount();
  if (parts.some((part) => typeof part === "number" && part > groupsMax))
    throw new MeshbedError(
      "REGEX_INVALID",
      `substitution ${JSON.stringify(substitution)} names a group that is not there`,
    );
  return (text) => {
    const matcher = program.matcher(text);
    let out = "";
    let last = 0;
    while (matcher.find()) {
      out += text.slice(last, matcher.start());
      for (const part of parts) out += typeof part === "number" ? (matcher.group(part) ?? "") : part;
      last = matcher.end();
    }
    return out + text.slice(last);
  };
}

function compileTemplate({ name, typedConfig }: TypedExtensionConfig, match: RouteMatch): (path: string) => string {
  const config = typedConfig && unpack(typedConfig, UriTemplateRewriteConfigSchema);
  if (!config || match.pathSpecifier.case !== "pathMatchPolicy")
    throw new MeshbedError("ROUTE_INVALID", `path_rewrite_policy ${name} needs a URI template here and in the match`);
  return compileTemplateRewrite(config.pathTemplateRewrite, compileTemplateMatch(match.pathSpecifier.value));
}

/** The query is left alone. */
function onPath(rewrite: (path: string) => string): PathRewrite {
  return (path) => {
    const question = path.indexOf("?");
    return question < 0 ? rewrite(path) : rewrite(path.slice(0, question)) + path.slice(question);
  };
}

const redirectStatus: Record<RedirectCode, number> = {
  [RedirectCode.MOVED_PERMANENTLY]: 301,
  [RedirectCode.FOUND]: 302,
  [RedirectCode.SEE_OTHER]: 303,
  [RedirectCode.TEMPORARY_REDIRECT]: 307,
  [RedirectCode.PERMANENT_REDIRECT]: 308,
};

export function compileRedirect(message: RedirectMessage, match: RouteMatch): RedirectAction {
  const { schemeRewriteSpecifier: schemeRule, hostRedirect, portRedirect } = message;
  const schemeRedirect = schemeRule.case === "httpsRedirect" ? (schemeRule.value ? "https" : "") : schemeRule.value;
  const path = compileRedirectPath(message, match);
  return {
    kind: "redirect",
    status: redirectStatus[message.responseCode],
    location(request) {
      const scheme = schemeRedirect || request.scheme;
      let authority = hostRedirect || request.authority;
      // The old scheme's default port means nothing in the new one.
      if (hostRedirect === "" && scheme !== request.scheme)
        authority = authority.replace(request.scheme === "http" ? /:80$/ : /:443$/, "");
      if (portRedirect > 0) authority = `${hostRedirect || authority.replace(/:\d+$/, "")}:${portRedirect}`;
      return `${scheme}://${authority}${path(request.path)}`;
    },
  };
}

/** A query of path_redirect's own replaces the request's and is never stripped. */
function compileRedirectPath(message: RedirectMessage, match: RouteMatch): PathRewrite {
  const { pathRewriteSpecifier: rule, stripQuery } = message;
  const strip = (path: string): string => (stripQuery ? path.split("?", 1)[0]! : path);
  if (rule.case === "pathRedirect" && rule.value !== "") {
    const { value } = rule;
    if (value.includes("?")) return () => value;
    return (path) => strip(onPath(() => value)(path));
  }
  const rewrite = compilePathRewrite(
    {
      prefixRewrite: rule.case === "prefixRewrite" ? rule.value : "",
      regexRewrite: rule.case === "regexRewrite" ? rule.value : undefined,
      policy: undefined,
    },
    match,
  );
  return (path) => strip(rewrite ? rewrite(path) : path);
}
