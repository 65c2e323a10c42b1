// Clients that TLS did not let in: counted under Envoy's names (listener.<name>.ssl.*), and said in the log with the reason.

import type { Runtime } from "../chain.ts";

/** Envoy's statistics of a listener's ssl. */
export type RefusalKind =
  | "fail_verify_no_cert"
  | "fail_verify_error"
  | "fail_verify_san"
  | "fail_verify_cert_hash"
  | "connection_error";

export interface Refusal {
  kind: RefusalKind;
  reason: string;
}

/** Who knocks on and on does not fill the log: within half a second (a tick of the sweeper) so many lines; the count goes on. */
const linesPerTickMax = 50;
let tickMs = -1;
let lines = 0;

export function noteRefusal(runtime: Runtime, listener: string, client: string, { kind, reason }: Refusal): void {
  const help = "Connections that failed in TLS, by Envoy's name of the reason.";
  runtime.metrics.counter(`envoy_listener_ssl_${kind}`, help, { envoy_listener_address: listener }).value++;
  if (runtime.sweeper.nowMs !== tickMs) {
    tickMs = runtime.sweeper.nowMs;
    lines = 0;
  }
  if (lines++ < linesPerTickMax) runtime.log.info("TLS handshake refused", { listener, client, kind, reason });
}
