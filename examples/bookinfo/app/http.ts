// What the four services share: serving, calling each other, and passing on what belongs to a request.

/** Undefined: 404. */
export type Handler = (request: Request, url: URL) => Response | undefined | Promise<Response | undefined>;

/** `$PORT` and `$HOST` are given where pods have no network of their own. */
export function serve(name: string, handler: Handler): void {
  const server = Bun.serve({
    hostname: process.env["HOST"] ?? "0.0.0.0",
    port: Number(process.env["PORT"] ?? 9080),
    // The longest wait is reviews v2's for ratings; Bun would give up after 10 s.
    idleTimeout: 30,
    async fetch(request) {
      const response = (await handler(request, new URL(request.url))) ?? new Response("Not Found\n", { status: 404 });
      response.headers.set("x-pod", process.env["HOSTNAME"] ?? "");
      console.log(`${request.method} ${new URL(request.url).pathname} ${response.status}`);
      return response;
    },
  });
  console.log(`${name} listens on ${server.port}`);
  process.on("SIGTERM", async () => {
    await server.stop();
    process.exit(0);
  });
}

/** The base URL of another service: by its name, or where pods have no names by the variables Kubernetes gives them. */
export function serviceUrl(name: string): string {
  const variable = (what: string): string | undefined => process.env[`${name.toUpperCase()}_${what}`];
  const named = variable("HOSTNAME") ?? name;
  const host = process.env["PORT"] === undefined ? named : (variable("SERVICE_HOST") ?? named);
  return `http://${host}:${variable("SERVICE_PORT") ?? "9080"}`;
}

/** Of a request that causes others: its trace in every form there is, who asks, and the session. */
const forwarded = [
  ...["x-request-id", "traceparent", "tracestate", "b3", "grpc-trace-bin", "sw8"],
  ...["x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"],
  ...["x-ot-span-context", "x-cloud-trace-context"],
  ...["x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-sampling-priority"],
  ...["end-user", "user-agent", "cookie", "authorization", "jwt"],
];

export function forwardedHeaders(request: Request): Headers {
  const headers = new Headers();
  for (const name of forwarded) {
    const value = request.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  return headers;
}

/** Of an answer that is no 200, its status; 500 when there was none in time. */
export type Called<T> = { status: 200; value: T } | { status: number; value: undefined };

/** GET of a JSON document. */
export async function call<T>(url: string, headers: Headers, timeoutMs: number): Promise<Called<T>> {
  try {
    const response = await fetch(url, { headers, signal: AbortSignal.timeout(timeoutMs) });
    if (response.status === 200) return { status: 200, value: (await response.json()) as T };
    await response.arrayBuffer();
    return { status: response.status, value: undefined };
  } catch (error) {
    console.error(`${url}: ${error}`);
    return { status: 500, value: undefined };
  }
}
