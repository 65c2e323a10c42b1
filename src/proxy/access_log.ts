// Access log lines in Envoy's default text format on standard output, written in batches.

import type { ConnectionInfo } from "./chain.ts";
import type { RequestView } from "./request.ts";

export interface AccessEntry {
  startedAtMs: number;
  request: RequestView;
  minor: number;
  status: number;
  flags: string;
  /** RESPONSE_CODE_DETAILS; empty: nothing special. */
  details: string;
  /** Envoy's dynamic metadata, by filter name. */
  metadata: ReadonlyMap<string, unknown> | undefined;
  requestBodyBytes: number;
  responseBodyBytes: number;
  durationMs: number;
  upstreamServiceMs: number | undefined;
  upstream: string;
  cluster: string;
  route: string;
  connection: ConnectionInfo;
}

export interface AccessLog {
  log(entry: AccessEntry): void;
}

/** Lines waiting for the next turn of the event loop; past this many they are dropped and counted in the next line written. */
const waitingMax = 10_000;

const quoted = (value: string | undefined): string => `"${(value ?? "-").replace(/["\\\r\n]/g, "?") || "-"}"`;

/** Istio's default format (Envoy's with Istio's additions). */
function format(entry: AccessEntry): string {
  const { request, connection: at } = entry;
  return [
    `[${new Date(entry.startedAtMs).toISOString()}]`,
    quoted(`${request.method} ${request.path} HTTP/1.${entry.minor}`),
    entry.status,
    entry.flags,
    "via_upstream - -",
    entry.requestBodyBytes,
    entry.responseBodyBytes,
    Math.round(entry.durationMs),
    entry.upstreamServiceMs === undefined ? "-" : Math.round(entry.upstreamServiceMs),
    quoted(request.header("x-forwarded-for")),
    quoted(request.header("user-agent")),
    quoted(request.header("x-request-id")),
    quoted(request.authority),
    quoted(entry.upstream),
    entry.cluster || "-",
    "-",
    `${at.localAddress}:${at.localPort}`,
    `${at.remoteAddress}:${at.remotePort}`,
    at.serverName || "-",
    entry.route || "-",
  ].join(" ");
}

export function createAccessLog(write: (text: string) => void): AccessLog {
  let waiting: string[] = [];
  let dropped = 0;
  return {
    log(entry) {
      if (waiting.length >= waitingMax) {
        dropped++;
        return;
      }
      waiting.push(format(entry));
      if (waiting.length > 1) return;
      setImmediate(() => {
        const lines = waiting;
        waiting = [];
        if (dropped > 0) lines.push(`access log: ${dropped} lines dropped`);
        dropped = 0;
        write(`${lines.join("\n")}\n`);
      });
    },
  };
}
