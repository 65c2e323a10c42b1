// Envoy RouteMatch → the path and the further conditions a request must meet. Used for routes and for JWT rules.

import type { TypedExtensionConfig } from "#gen/xds/envoy/config/core/v3/extension_pb.js";
import type {
  RouteMatch,
  RouteMatch_TlsContextMatchOptions as TlsOptions,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { UriTemplateMatchConfigSchema } from "#gen/xds/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import type { Random } from "../../kernel/random.ts";
import { compileHeader, compileMetadata, compileQuery, compileRegex, type RequestTest } from "../routing/match.ts";
import type { Match, PathTest } from "../routing/route.ts";
import { compileUriTemplate, type UriTemplate } from "../routing/uri_template.ts";
import { unpack } from "./any.ts";
import { draws, runtimeShareOf } from "./fraction.ts";

export function compileMatch(message: RouteMatch, random: Random): Match {
  return { path: compilePath(message), tests: compileTests(message, random) };
}

/** case_sensitive does not concern expressions and templates. */
function compilePath(match: RouteMatch): PathTest {
  const specifier = match.pathSpecifier;
  const ignoreCase = match.caseSensitive === false;
  const fold = (text: string): string => (ignoreCase ? text.toLowerCase() : text);
  switch (specifier.case) {
    case "prefix":
      return { kind: "prefix", value: fold(specifier.value), ignoreCase };
    case "path":
      return { kind: "path", value: fold(specifier.value), ignoreCase };
    case "pathSeparatedPrefix":
      return { kind: "segments", value: fold(specifier.value), ignoreCase };
    case "safeRegex":
      return { kind: "regex", test: compileRegex(specifier.value.regex) };
    case "pathMatchPolicy": {
      const template = compileTemplateMatch(specifier.value);
      return { kind: "regex", test: (path) => template.match(path) !== undefined };
    }
    case "connectMatcher":
      return { kind: "connect" };
    default:
      throw new MeshbedError("ROUTE_INVALID", `path match "${specifier.case ?? "empty"}" is not supported`);
  }
}

export function compileTemplateMatch({ name, typedConfig }: TypedExtensionConfig): UriTemplate {
  const config = typedConfig && unpack(typedConfig, UriTemplateMatchConfigSchema);
  if (!config) throw new MeshbedError("ROUTE_INVALID", `path_match_policy ${name} is not a URI template`);
  return compileUriTemplate(config.pathTemplate);
}

function compileTests(match: RouteMatch, random: Random): RequestTest[] {
  const tests: RequestTest[] = [...match.headers.map(compileHeader), ...match.queryParameters.map(compileQuery)];
  if (match.grpc) tests.push((request) => /^application\/grpc(\+|;|$)/.test(request.header("content-type") ?? ""));
  if (match.tlsContext) tests.push(compileTls(match.tlsContext));
  for (const matcher of match.dynamicMetadata) {
    const test = compileMetadata(matcher);
    tests.push((request) => test((filter) => request.metadata?.get(filter)));
  }
  if (match.runtimeFraction) {
    const share = runtimeShareOf(match.runtimeFraction, 1);
    // Last: only requests that match otherwise take part in the draw.
    tests.push(() => draws(share, random));
  }
  return tests;
}

/** Without TLS there is no certificate, and so no answer to whether it is good: as Envoy, that matches neither. */
function compileTls({ presented, validated }: TlsOptions): RequestTest {
  return ({ connection }) => {
    if (!connection?.secure) return presented === undefined && validated === undefined;
    const isValid = connection.peer.authenticated || connection.peer.names !== undefined;
    const isThere = isValid || hasCertificate(connection.session);
    return (presented === undefined || presented === isThere) && (validated === undefined || validated === isValid);
  };
}

function hasCertificate(session: NonNullable<Parameters<RequestTest>[0]["connection"]>["session"]): boolean {
  return Object.keys(session?.getPeerCertificate() ?? {}).length > 0;
}
