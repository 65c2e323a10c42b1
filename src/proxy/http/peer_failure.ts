// What an inbound proxy tells the tunnel's other end about its pod, in the Proxy-Status field (RFC 9209) of the answer it makes itself.

import type { Head } from "../../wire/http1_head.ts";
import type { Failure } from "../routing/retry.ts";

/** RFC 9209 §2.3.6 and §2.3.8. */
const refused = "error=connection_refused";
const terminated = "error=connection_terminated";

/** A header line. */
export const proxyStatus = (server: string | undefined, failure: Failure): string =>
  `proxy-status: ${server ?? "istio-envoy"}; ${failure === "connect-failure" ? refused : terminated}\r\n`;

/**
 * The tunnel stands, but not the pod behind it. For a retry that is a connection that failed or broke, as it would be without a
 * tunnel, and not an answer.
 */
export function podFailure(head: Head): "connect-failure" | "reset" | undefined {
  if (head.status !== 503) return undefined;
  const status = head.get("proxy-status");
  if (status === undefined) return undefined;
  return status.includes(refused) ? "connect-failure" : status.includes(terminated) ? "reset" : undefined;
}
