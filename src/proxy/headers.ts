// Header changes on the way through: forwarding fields, configured rules, and the request head as it goes upstream.

import { uuid } from "../kernel/random.ts";
import { type Head, known } from "../wire/http1_head.ts";
import { type HeaderEdits, type HeadWriter, writeFields } from "../wire/http1_write.ts";
import type { ConnectionInfo, HttpChain } from "./chain.ts";
import type { WorkloadIdentity } from "./cluster.ts";
import type { RequestView } from "./request.ts";
import type { HeaderRules } from "./route.ts";

const clientCertificate = "x-forwarded-client-cert";

/** Fields every forwarded request gets (Envoy's HTTP connection manager; use_remote_address at the edge). */
export function prepareRequest(
  edits: HeaderEdits,
  request: RequestView,
  chain: HttpChain,
  connection: ConnectionInfo,
): void {
  const { dropIds } = edits;
  dropIds[known.expect] = 1;
  if (chain.edge) {
    dropIds[known.xForwardedFor] = 1;
    dropIds[known.xForwardedProto] = 1;
    dropIds[known.xRequestId] = 1;
    edits.removed = [clientCertificate];
    const before = request.knownHeader(known.xForwardedFor);
    const forwardedFor =
      before === undefined
        ? connection.remoteAddress
        : `${request.head.get("x-forwarded-for")}, ${connection.remoteAddress}`;
    edits.added = `x-forwarded-for: ${forwardedFor}\r\nx-forwarded-proto: ${request.scheme}\r\nx-request-id: ${uuid()}\r\n`;
    return;
  }
  if (!request.has(known.xRequestId)) edits.added = `x-request-id: ${uuid()}\r\n`;
  if (!request.has(known.xForwardedProto)) edits.added += `x-forwarded-proto: ${request.scheme}\r\n`;
  if (!chain.inbound) return;
  if (connection.peer.authenticated) setClientCertificate(edits, chain.owner.identity, connection.peer.identity);
  else edits.removed = [clientCertificate];
}

/** Tells the application who called (Envoy: forward_client_cert_details SANITIZE_SET), whatever the caller claims. */
export function setClientCertificate(edits: HeaderEdits, own: WorkloadIdentity, peer: WorkloadIdentity): void {
  if (edits.removed?.includes(clientCertificate) && edits.added.includes(`${clientCertificate}: By=`)) return;
  edits.removed = edits.removed ? [...edits.removed, clientCertificate] : [clientCertificate];
  edits.added += `${clientCertificate}: By=${own.principal};URI=${peer.principal}\r\n`;
}

export function prepareResponse(edits: HeaderEdits, chain: HttpChain, serviceMs: number | undefined): void {
  edits.dropIds[known.upstreamServiceTime] = 1;
  const time = `x-envoy-upstream-service-time: ${Math.round(serviceMs ?? 0)}\r\n`;
  if (chain.serverName === undefined) edits.added += time;
  else {
    edits.dropIds[known.server] = 1;
    edits.added += `server: ${chain.serverName}\r\n${time}`;
  }
}

/** Applies configured rules. Envoy's order: remove, then add. */
export function addRules(edits: HeaderEdits, rules: HeaderRules, head: Head | undefined): void {
  for (const name of rules.remove) removeHeader(edits, name);
  for (const { name, value, mode } of rules.add) {
    if (mode === "absent" && (head?.get(name) !== undefined || edits.added.includes(`${name}: `))) continue;
    if (mode === "overwrite") removeHeader(edits, name);
    edits.added += `${name}: ${value}\r\n`;
  }
}

/** Instead of whatever is there. `name` in lower case. */
export function setHeader(edits: HeaderEdits, name: string, value: string): void {
  removeHeader(edits, name);
  edits.added += `${name}: ${value}\r\n`;
}

/** Also takes back what an earlier step added. */
export function removeHeader(edits: HeaderEdits, name: string): void {
  if (edits.removed === undefined) edits.removed = [name];
  else if (!edits.removed.includes(name)) edits.removed = [...edits.removed, name];
  if (edits.added.includes(`${name}: `))
    edits.added = edits.added
      .split("\r\n")
      .filter((line) => line !== "" && !line.startsWith(`${name}: `))
      .map((line) => `${line}\r\n`)
      .join("");
}

/** The request head as the upstream gets it. */
export function writeRequestHead(out: HeadWriter, request: RequestView, edits: HeaderEdits, isUpgrade: boolean): void {
  const { head } = request;
  if (request.pathChanged || head.minor === 0) out.text(`${request.method} ${request.path} HTTP/1.1\r\n`);
  else out.copy(head.buffer, head.start, head.fieldsStart);
  if (request.authorityChanged) {
    edits.dropIds[known.host] = 1;
    out.text(`host: ${request.authority}\r\n`);
  }
  if (isUpgrade) out.text(`connection: upgrade\r\nupgrade: ${head.value(head.upgradeIndex)}\r\n`);
  writeFields(out, head, edits);
}
