// Answers the proxy gives by itself, with Envoy's bodies.

/** What happened, in Envoy's words (source: Envoy's core response flags and stream reset reasons). */
export const resetReason = {
  connectFailure: "remote connection failure",
  timeout: "connection timeout",
  termination: "connection termination",
  overflow: "overflow",
  protocol: "protocol error",
} as const;

const reasons: Record<number, string> = {
  200: "OK",
  204: "No Content",
  301: "Moved Permanently",
  302: "Found",
  303: "See Other",
  307: "Temporary Redirect",
  308: "Permanent Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  408: "Request Timeout",
  413: "Payload Too Large",
  418: "I'm a Teapot",
  421: "Misdirected Request",
  426: "Upgrade Required",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  505: "HTTP Version Not Supported",
};

/** Reason phrase; clients ignore it, people do not. */
export function reasonOf(status: number): string {
  return reasons[status] ?? "Unknown";
}

/** Envoy's body for a failed exchange with the upstream. */
export function upstreamErrorBody(reason: string, retried: boolean): string {
  return retried
    ? `upstream connect error or disconnect/reset before headers. retried and the latest reset reason: ${reason}`
    : `upstream connect error or disconnect/reset before headers. reset reason: ${reason}`;
}

/** RESPONSE_CODE_DETAILS of a lost upstream, as Envoy writes them. */
export const resetDetails = (when: "before" | "after", reason: string): string =>
  `upstream_reset_${when}_response_started{${reason.replaceAll(" ", "_")}}`;

/** The head of a local answer. `headers` are complete lines. */
/** RFC 9110 §15.3.5, §15.4.5: these have no body. */
export const isBodiless = (status: number): boolean => status === 204 || status === 304;

export function localHead(
  status: number,
  body: string,
  options: { date: string; server: string | undefined; close: boolean; headers: string; contentType: string },
): string {
  const length = Buffer.byteLength(body);
  const type = body === "" || isBodiless(status) ? "" : `content-type: ${options.contentType}\r\n`;
  const server = options.server === undefined ? "" : `server: ${options.server}\r\n`;
  const close = options.close ? "connection: close\r\n" : "";
  const size = isBodiless(status) ? "" : `content-length: ${length}\r\n`;
  return `HTTP/1.1 ${status} ${reasonOf(status)}\r\n${size}${type}${options.headers}date: ${options.date}\r\n${server}${close}\r\n`;
}
