// x-forwarded-client-cert: tells the application who called over mutual TLS (HttpConnectionManager.forward_client_cert_details).

import type { X509Certificate } from "node:crypto";
import {
  HttpConnectionManager_ForwardClientCertDetails as Details,
  type HttpConnectionManager,
} from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { known } from "../../wire/http1_head.ts";
import type { HeaderEdits } from "../../wire/http1_write.ts";
import type { ConnectionInfo } from "../chain.ts";
import type { WorkloadIdentity } from "../clusters/cluster.ts";
import type { RequestView } from "../http/request.ts";
import { altNamesOf } from "./alt_names.ts";
import { certificateHash } from "./validation.ts";

export interface ClientCertForwarding {
  /** What happens to the field a client sends; all but `always` drop it when there is no client certificate. */
  mode: "sanitize" | "forward" | "append" | "set" | "always";
  cert: boolean;
  chain: boolean;
  subject: boolean;
  uri: boolean;
  dns: boolean;
}

const modes: Record<Details, ClientCertForwarding["mode"]> = {
  [Details.SANITIZE]: "sanitize",
  [Details.FORWARD_ONLY]: "forward",
  [Details.APPEND_FORWARD]: "append",
  [Details.SANITIZE_SET]: "set",
  [Details.ALWAYS_FORWARD_ONLY]: "always",
};

export function compileClientCert(http: HttpConnectionManager): ClientCertForwarding {
  const set = http.setCurrentClientCertDetails;
  return {
    mode: modes[http.forwardClientCertDetails],
    cert: set?.cert === true,
    chain: set?.chain === true,
    subject: set?.subject === true,
    uri: set?.uri === true,
    dns: set?.dns === true,
  };
}

const name = "x-forwarded-client-cert";

export function forwardClientCert(
  edits: HeaderEdits,
  request: RequestView,
  how: ClientCertForwarding,
  connection: ConnectionInfo,
): void {
  if (how.mode === "always") return;
  const element = how.mode === "sanitize" ? undefined : elementOf(connection, how);
  if (element !== undefined && how.mode === "forward") return;
  const isAppended = how.mode === "append" && element !== undefined && request.has(known.xForwardedClientCert);
  const before = isAppended ? request.head.get(name) : undefined;
  edits.dropIds[known.xForwardedClientCert] = 1;
  if (element !== undefined) edits.added += `${name}: ${before === undefined ? "" : `${before},`}${element}\r\n`;
}

/** A caller in this very process: no TLS, but its identity is known as surely. */
export function setClientCert(
  edits: HeaderEdits,
  how: ClientCertForwarding,
  own: WorkloadIdentity,
  peer: WorkloadIdentity,
): void {
  if (how.mode === "always" || how.mode === "forward") return;
  edits.dropIds[known.xForwardedClientCert] = 1;
  if (how.mode === "sanitize") return;
  const element = `By=${own.principal};${how.subject ? 'Subject="";' : ""}URI=${peer.principal}`;
  // A second try adds nothing.
  if (!edits.added.includes(`${name}: ${element}\r\n`)) edits.added += `${name}: ${element}\r\n`;
}

/** Made for a connection's first request and kept; undefined without a client certificate. */
function elementOf(connection: ConnectionInfo, how: ClientCertForwarding): string | undefined {
  const { session } = connection;
  if (session === undefined) return undefined;
  if (connection.clientCert?.how !== how) {
    const certificate = session.getPeerX509Certificate();
    const text = certificate && describe(certificate, session.getX509Certificate(), how);
    connection.clientCert = { how, text };
  }
  return connection.clientCert.text;
}

function describe(peer: X509Certificate, own: X509Certificate | undefined, how: ClientCertForwarding): string {
  const of = (certificate: X509Certificate | undefined, type: "URI" | "DNS"): string[] =>
    altNamesOf(certificate?.subjectAltName).flatMap((entry) => (entry.type === type ? [quoted(entry.value)] : []));
  const pem = how.cert || how.chain ? encodeURIComponent(peer.toString()) : "";
  return [
    ...of(own, "URI").map((uri) => `By=${uri}`),
    `Hash=${certificateHash(peer)}`,
    ...(how.cert ? [`Cert="${pem}"`] : []),
    // Bun tells the leaf only; Envoy's Chain begins with it.
    ...(how.chain ? [`Chain="${pem}"`] : []),
    ...(how.subject ? [`Subject="${distinguishedName(peer.subject).replace(/["\\]/g, "\\$&")}"`] : []),
    // The key is there even when there is no URI.
    ...(how.uri ? [`URI=${of(peer, "URI").join(";URI=")}`] : []),
    ...(how.dns ? of(peer, "DNS").map((dns) => `DNS=${dns}`) : []),
  ].join(";");
}

/** A value with a separator in it goes into double quotes; whatever cannot stand in a field is percent-encoded. */
function quoted(value: string): string {
  const safe = value.replace(/[^\x20-\x7e]/g, encodeURIComponent);
  return /[,;="]/.test(safe) ? `"${safe.replace(/["\\]/g, "\\$&")}"` : safe;
}

/**
 * RFC 2253: the most specific attribute first. node:crypto prints one attribute a line, the other way round, and nothing for an empty
 * name: a workload's certificate has its identity in the alternative names only.
 */
export function distinguishedName(subject: string | undefined): string {
  return (subject ?? "")
    .split("\n")
    .reverse()
    .join(",")
    .replace(/[^\x20-\x7e]/g, encodeURIComponent);
}
