// Answers the proxy gives by itself, with Envoy's bodies.

import { reasonOf } from "../../wire/reasons.ts";
import type { Failure } from "../routing/retry.ts";

/** What happened, in Envoy's words (source: Envoy's core response flags and stream reset reasons). */
export const resetReason = {
  connectFailure: "remote connection failure",
  timeout: "connection timeout",
  termination: "connection termination",
  overflow: "overflow",
  protocol: "protocol error",
  remote: "remote reset",
  refused: "remote refused stream reset",
} as const;

/** Envoy's body for a failed exchange with the upstream. */
export function upstreamErrorBody(reason: string, retried: boolean): string {
  return retried
    ? `upstream connect error or disconnect/reset before headers. retried and the latest reset reason: ${reason}`
    : `upstream connect error or disconnect/reset before headers. reset reason: ${reason}`;
}

/** The response flag of a request that failed so. */
export const failureFlag = (failure: Failure): string => {
  if (failure === "connect-failure") return "UF";
  return failure === "refused-stream" || failure === "remote-reset" ? "UR" : "UC";
};

/** RESPONSE_CODE_DETAILS of a lost upstream, as Envoy writes them. */
export const resetDetails = (when: "before" | "after", reason: string): string =>
  `upstream_reset_${when}_response_started{${reason.replaceAll(" ", "_")}}`;

/** The head of a local answer. `headers` are complete lines. */
/** RFC 9110 §15.3.5, §15.4.5: these have no body. */
export const isBodiless = (status: number): boolean => status === 204 || status === 304;

/** `headers`: complete lines; one of them may be the type itself. */
export const typeLine = (headers: string, contentType: string): string =>
  /(^|\n)content-type:/i.test(headers) ? "" : `content-type: ${contentType}\r\n`;

export function localHead(
  status: number,
  body: string,
  options: { date: string; server: string | undefined; close: boolean; headers: string; contentType: string },
): string {
  const length = Buffer.byteLength(body);
  const type = body === "" || isBodiless(status) ? "" : typeLine(options.headers, options.contentType);
  const server = options.server === undefined ? "" : `server: ${options.server}\r\n`;
  const close = options.close ? "connection: close\r\n" : "";
  const size = isBodiless(status) ? "" : `content-length: ${length}\r\n`;
  return `HTTP/1.1 ${status} ${reasonOf(status)}\r\n${size}${type}${options.headers}date: ${options.date}\r\n${server}${close}\r\n`;
}
