// Header changes on the way through: forwarding fields, configured rules, and the request head as it goes upstream.

import { type Head, known } from "../../wire/http1_head.ts";
import { type HeaderEdits, type HeadWriter, removeHeader, setHeader, writeFields } from "../../wire/http1_write.ts";
import type { ConnectionInfo, HttpChain } from "../chain.ts";
import { fieldAfter, type StreamInfo } from "../log/stream_info.ts";
import type { ForwardAction, HeaderAddition, HeaderRules, WeightedTarget } from "../routing/route.ts";
import { forwardClientCert } from "../tls/client_cert.ts";
import { answerFields, forwardFields } from "./header_policy.ts";
import type { RequestView } from "./request.ts";

/** Fields every forwarded request gets (Envoy's HTTP connection manager; use_remote_address at the edge). */
export function prepareRequest(
  edits: HeaderEdits,
  request: RequestView,
  chain: HttpChain,
  connection: ConnectionInfo,
): void {
  const { dropIds } = edits;
  // What the proxy has answered itself; other expectations are the server's to refuse.
  if (request.head.expectContinue && !(chain.proxiesContinue && request.head.minor === 1)) dropIds[known.expect] = 1;
  if (chain.trailers) keepTrailerFields(edits, request);
  forwardClientCert(edits, request, chain.clientCert, connection);
  forwardFields(edits, request, chain, connection);
}

/** What the route changes before a request goes on to one of its targets. */
export function prepareForward(
  edits: HeaderEdits,
  request: RequestView,
  chain: HttpChain,
  action: ForwardAction,
  target: WeightedTarget,
  source: InfoSource,
): void {
  for (const rules of target.requestHeaders) addRules(edits, rules, request.head, source);
  const path = action.rewritePath && !request.isConnect ? action.rewritePath(request.path) : request.path;
  if (path !== request.path) {
    if (!chain.policy.suppressEnvoy) setHeader(edits, "x-envoy-original-path", request.path);
    request.rewritePath(path);
  }
  const host = typeof target.hostRewrite === "function" ? target.hostRewrite(request) : target.hostRewrite;
  if (host === undefined) return;
  if (action.tellsOriginalHost && host !== request.authority)
    edits.added += `x-forwarded-host: ${request.authority}\r\n`;
  request.rewriteAuthority(host);
}

/** Hop by hop, but true of the next hop as well while trailers go through (RFC 9110 §10.1.4, §6.6.2). */
function keepTrailerFields(edits: HeaderEdits, request: RequestView): void {
  const { head } = request;
  const trailer = head.chunked ? request.knownHeader(known.trailer) : undefined;
  if (trailer !== undefined) edits.added += `trailer: ${trailer}\r\n`;
  if (/(?:^|,)[ \t]*trailers[ \t]*(?:,|$)/i.test(request.knownHeader(known.te) ?? ""))
    edits.added += "te: trailers\r\nconnection: te\r\n";
}

export function prepareResponse(
  edits: HeaderEdits,
  head: Head,
  chain: HttpChain,
  request: RequestView,
  requestEdits: HeaderEdits,
  serviceMs: number | undefined,
): void {
  const { policy, serverName } = chain;
  let lines = "";
  if (serverName !== undefined && !(policy.serverIfAbsent && (head.mask & (1 << known.server)) !== 0)) {
    edits.dropIds[known.server] = 1;
    lines = `server: ${serverName}\r\n`;
  }
  if (!policy.suppressEnvoy) {
    edits.dropIds[known.upstreamServiceTime] = 1;
    lines += `x-envoy-upstream-service-time: ${Math.round(serviceMs ?? 0)}\r\n`;
  }
  edits.added += lines;
  if (policy.addsToAnswers) answerFields(edits, request, requestEdits, policy, head.get("via"));
}

/** Who can say what a value with command operators is made of. */
export interface InfoSource {
  streamInfo(): StreamInfo;
}

/** Applies configured rules. Envoy's order: remove, then add. */
export function addRules(edits: HeaderEdits, rules: HeaderRules, head: Head | undefined, source: InfoSource): void {
  for (const name of rules.remove) removeHeader(edits, name);
  for (const addition of rules.add) addHeader(edits, addition, head, source);
}

export function addHeader(
  edits: HeaderEdits,
  { name, value, mode, keepEmpty }: HeaderAddition,
  head: Head | undefined,
  source: InfoSource,
): void {
  if (mode === "absent" || mode === "present") {
    const isThere = fieldAfter(head, edits, name) !== undefined;
    if (isThere !== (mode === "present")) return;
  }
  const text = typeof value === "string" ? value : value(source.streamInfo());
  if (text === "" && !keepEmpty) return;
  if (mode === "overwrite" || mode === "present") removeHeader(edits, name);
  edits.added += `${name}: ${text}\r\n`;
}

/** The request head as the upstream gets it. */
export function writeRequestHead(out: HeadWriter, request: RequestView, edits: HeaderEdits, isUpgrade: boolean): void {
  const { head } = request;
  if (request.isConnect) {
    edits.dropIds[known.contentLength] = 1;
    out.text(`CONNECT ${request.authority} HTTP/1.1\r\n`);
  } else if (request.pathChanged || head.minor === 0) out.text(`${request.method} ${request.path} HTTP/1.1\r\n`);
  else out.copy(head.buffer, head.start, head.fieldsStart);
  if (request.authorityChanged) {
    edits.dropIds[known.host] = 1;
    out.text(`host: ${request.authority}\r\n`);
  }
  if (request.isBare && head.contentLength < 0) out.text("transfer-encoding: chunked\r\n");
  if (isUpgrade && !request.isConnect) out.text(`connection: upgrade\r\nupgrade: ${head.value(head.upgradeIndex)}\r\n`);
  writeFields(out, head, edits);
}
