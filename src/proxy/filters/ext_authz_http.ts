// Asks an authorization service over HTTP: what of a request it is shown, and what of its answer counts.

import type { HttpService } from "#gen/xds/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import type { ListStringMatcher } from "#gen/xds/envoy/type/matcher/v3/string_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { unknownWorkload } from "../clusters/cluster.ts";
import { requestCluster } from "../clusters/request.ts";
import { durationMs } from "../compile/any.ts";
import type { FilterDeps } from "../filter.ts";
import { compileString } from "../routing/match.ts";
import type { Check, Field } from "./ext_authz.ts";

/** Envoy's default of http_service.server_uri.timeout. */
const timeoutDefaultMs = 200;
const bodyBytesMax = 64 * 1024;
/** Always shown (Envoy: http_service.authorization_request). Host, method and path make the request itself. */
const alwaysShown: ReadonlySet<string> = new Set(["authorization"]);
/** About one connection, or made anew. */
const ofConnection: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "te",
  "trailer",
  "upgrade",
  "content-length",
  "host",
  "expect",
]);
/** What a denial always takes over of the answer (Envoy: allowed_client_headers); with no list, everything. */
const alwaysTold: ReadonlySet<string> = new Set(["www-authenticate", "location"]);
/** Whoever answers says these. */
const neverTold: ReadonlySet<string> = new Set(["date", "server"]);

export function compileHttpCheck(
  name: string,
  service: HttpService,
  lists: { allowed: ListStringMatcher | undefined; disallowed: ListStringMatcher | undefined },
  { cluster, runtime }: FilterDeps,
): Check {
  const { serverUri: uri, pathPrefix, authorizationRequest: request, authorizationResponse: response } = service;
  if (uri?.httpUpstreamType.case !== "cluster" || !URL.canParse(uri.uri))
    throw new MeshbedError("EXT_AUTHZ_INVALID", `${name}: http_service needs server_uri with uri and cluster`);
  const slot = cluster(uri.httpUpstreamType.value);
  const timeoutMs = durationMs(uri.timeout, timeoutDefaultMs);
  const allowed = listTest(lists.allowed ?? request?.allowedHeaders);
  const disallowed = listTest(lists.disallowed);
  const added = (request?.headersToAdd ?? []).map(({ key, value }) => `${key}: ${value}\r\n`).join("");
  const replaced = new Set((request?.headersToAdd ?? []).map(({ key }) => key.toLowerCase()));
  const toUpstream = listTest(response?.allowedUpstreamHeaders);
  const appended = listTest(response?.allowedUpstreamHeadersToAppend);
  const onDenial = response?.allowedClientHeaders && listTest(response.allowedClientHeaders);
  const onSuccess = listTest(response?.allowedClientHeadersOnSuccess);

  return async ({ request: view }) => {
    let headers = added;
    const { head } = view;
    for (let i = 0; i < head.count; i++) {
      const field = head.name(i).toLowerCase();
      const isShown = (alwaysShown.has(field) || allowed(field)) && !disallowed(field);
      if (!isShown || ofConnection.has(field) || replaced.has(field)) continue;
      const value = view.header(field);
      // What a filter before this one has changed or removed counts.
      if (value !== undefined) headers += `${field}: ${value === head.get(field) ? head.value(i) : value}\r\n`;
    }
    const { method, authority, path } = view;
    const answer = await requestCluster(
      slot,
      {
        method,
        authority,
        path: pathPrefix + path,
        headers: `${headers}content-length: 0\r\n`,
        body: undefined,
        timeoutMs,
        bodyBytesMax,
        reuses: true,
      },
      unknownWorkload,
      runtime,
    );
    const { status } = answer;
    if (status >= 500) throw new MeshbedError("EXT_AUTHZ_FAILED", `${slot.name} answered ${status}`);
    const fields = answer.headers.filter(([field]) => !ofConnection.has(field));
    const those = (test: (field: string) => boolean): Field[] => fields.filter(([field]) => test(field));
    if (status === 200)
      return {
        allowed: true,
        set: those((field) => toUpstream(field) && !appended(field)),
        append: those(appended),
        remove: (answer.headers.find(([field]) => field === "x-envoy-auth-headers-to-remove")?.[1] ?? "")
          .split(",")
          .map((field) => field.trim().toLowerCase())
          .filter((field) => field !== "" && field !== "host" && !field.startsWith(":")),
        answer: those(onSuccess),
      };
    const told = (field: string): boolean => alwaysTold.has(field) || onDenial === undefined || onDenial(field);
    return {
      allowed: false,
      status,
      body: answer.body.toString(),
      headers: those((field) => told(field) && !neverTold.has(field)),
    };
  };
}

/** Nothing without a list. */
export function listTest(list: ListStringMatcher | undefined): (field: string) => boolean {
  const tests = (list?.patterns ?? []).map(compileString);
  return (field) => tests.some((test) => test(field));
}
