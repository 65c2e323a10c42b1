// A server that says what reached it, fails when asked to, and sends requests for others: what routing rules are tried with.

/** Further requests to send at once or in a row are refused. */
const requestsMax = 10_000;
const workersMax = 64;
const keysMax = 10_000;

const version = process.env["VERSION"] ?? "";
const pod = process.env["HOSTNAME"] ?? "";
const hostname = process.env["HOST"] ?? "0.0.0.0";

/** How often a request with this key has come, and for which host the last time. */
const seen = new Map<string, { times: number; host: string | null }>();
/** What was posted as to a Zipkin, by trace id; and how many exports as to an OpenTelemetry collector. */
const spans = new Map<string, unknown[]>();
let exportsSeen = 0;
/** Requests under way, and the most there were. */
const busy = { now: 0, most: 0 };

/**
 * What came, as JSON. `?status=503`, `?delayMs=100`, `?bytes=1000`; `?key=k&fail=2`: the first two with this key fail;
 * `?failing=v1`: pods of this name or version do.
 */
async function echo(request: Request, url: URL): Promise<Response> {
  const asked = (name: string, otherwise: number): number => Number(url.searchParams.get(name) ?? otherwise);
  const key = url.searchParams.get("key");
  const host = request.headers.get("host");
  const times = (seen.get(key ?? "")?.times ?? 0) + 1;
  if (key !== null && seen.size < keysMax) seen.set(key, { times, host });
  busy.most = Math.max(busy.most, ++busy.now);
  if (asked("delayMs", 0) > 0) await Bun.sleep(asked("delayMs", 0));
  busy.now--;
  const status = asked("status", 503);
  const came = {
    ...{ pod, version, method: request.method, path: url.pathname + url.search, times, host },
    headers: Object.fromEntries(request.headers),
    body: await request.text(),
    filler: "x".repeat(asked("bytes", 0)),
  };
  return Response.json(came, {
    status: fails(url, times) ? status : 200,
    headers: { "x-version": version, "x-pod": pod },
  });
}

function fails({ searchParams }: URL, times: number): boolean {
  const failing = searchParams.get("failing");
  if (failing !== null) return failing === pod || failing === version;
  return searchParams.has("fail") ? times <= Number(searchParams.get("fail")) : searchParams.has("status");
}

interface Order {
  /** http://…, or tcp://host:port: connects, sends a line, and reads until the other side closes. */
  url: string;
  method?: string;
  headers?: Record<string, string>;
  count?: number;
  workers?: number;
  timeoutMs?: number;
  /** https: whose certificate it is does not matter. */
  insecure?: boolean;
}

interface Answer {
  /** 0: there was none. */
  status: number;
  headers: Record<string, string>;
  body: string;
  tookMs: number;
}

/** POST of an order: sends the requests from here, through this pod's own proxy, and says what came back. */
async function forward(order: Order): Promise<Response> {
  const count = Math.min(order.count ?? 1, requestsMax);
  const answers: Answer[] = [];
  let started = 0;
  const worker = async () => {
    while (started < count) {
      started++;
      answers.push(await (order.url.startsWith("tcp:") ? connect(order) : send(order)));
    }
  };
  await Promise.all(Array.from({ length: Math.min(order.workers ?? 1, workersMax) }, worker));
  return Response.json(answers);
}

async function send({
  url,
  method = "GET",
  headers = {},
  timeoutMs = 10_000,
  insecure = false,
}: Order): Promise<Answer> {
  const startedMs = performance.now();
  const tookMs = () => Math.round(performance.now() - startedMs);
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    const tls = { rejectUnauthorized: !insecure };
    const response = await fetch(url, { method, headers, redirect: "manual", signal, tls });
    const body = await response.text();
    return { status: response.status, headers: Object.fromEntries(response.headers), body, tookMs: tookMs() };
  } catch (error) {
    return { status: 0, headers: {}, body: String(error), tookMs: tookMs() };
  }
}

async function connect({ url, timeoutMs = 10_000 }: Order): Promise<Answer> {
  const startedMs = performance.now();
  const { hostname, port } = new URL(url);
  let body = "";
  const over = Promise.withResolvers<void>();
  const socket = await Bun.connect({
    ...{ hostname, port: Number(port) },
    socket: {
      open: (opened) => void opened.write("hello\n"),
      data(_, chunk) {
        body += chunk.toString();
      },
      close: () => over.resolve(),
      error: () => over.resolve(),
      connectError: () => over.resolve(),
    },
  }).catch(() => over.resolve());
  await Promise.race([over.promise, Bun.sleep(timeoutMs)]);
  socket?.end();
  return { status: 0, headers: {}, body, tookMs: Math.round(performance.now() - startedMs) };
}

async function collect(request: Request, path: string): Promise<Response> {
  if (path === "/v1/traces") {
    exportsSeen++;
    await request.arrayBuffer();
    return new Response();
  }
  for (const span of (await request.json()) as { traceId: string }[]) {
    const known = spans.get(span.traceId);
    if (known) known.push(span);
    else if (spans.size < keysMax) spans.set(span.traceId, [span]);
  }
  return new Response(null, { status: 202 });
}

const fetchHandler = async (request: Request): Promise<Response> => {
  const url = new URL(request.url);
  if (url.pathname === "/healthz") return new Response("ok");
  if (url.pathname === "/seen") return Response.json(seen.get(url.searchParams.get("key") ?? "") ?? { times: 0 });
  if (url.pathname === "/most-at-once") return Response.json(busy.most);
  if (url.pathname === "/forward" && request.method === "POST") return forward((await request.json()) as Order);
  if (request.method === "POST" && /^\/(api\/v2\/spans|v1\/traces)$/.test(url.pathname))
    return collect(request, url.pathname);
  if (url.pathname === "/exports") return Response.json(exportsSeen);
  const [, trace] = /^\/api\/v2\/trace\/(\w+)$/.exec(url.pathname) ?? [];
  if (trace !== undefined) return Response.json(spans.get(trace) ?? []);
  return echo(request, url);
};

const serving = { hostname, fetch: fetchHandler, idleTimeout: 60 };
const servers = [Bun.serve({ ...serving, port: Number(process.env["PORT"] ?? 8080) })];
const { TLS_CERT, TLS_KEY, TLS_PORT = "8443", TCP_PORT } = process.env;
if (TLS_CERT && TLS_KEY)
  servers.push(
    Bun.serve({ ...serving, port: Number(TLS_PORT), tls: { cert: Bun.file(TLS_CERT), key: Bun.file(TLS_KEY) } }),
  );
if (TCP_PORT)
  Bun.listen({
    ...{ hostname, port: Number(TCP_PORT) },
    socket: {
      data(socket, chunk) {
        socket.end(`${version} ${pod} heard ${chunk.toString()}`);
      },
    },
  });
console.log(`echo ${version} listens on ${servers.map(({ port }) => port).join(", ")}`);
/** Requests come until every client knows that this server ends; a server that closes at once would fail them. */
const drainMs = 300;
process.on("SIGTERM", async () => {
  await Bun.sleep(drainMs);
  await Promise.all(servers.map((server) => server.stop()));
  process.exit(0);
});
