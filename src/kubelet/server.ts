// The kubelet's HTTPS API for the API server: container logs, pods, health, metrics. A client certificate is required.

import type { Pod } from "../api/types.ts";
import type { Clock } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Metrics } from "../kernel/metrics.ts";
import { type LogOptions, readLog } from "./log-reader.ts";

export interface ServerOptions {
  host: string;
  port: number;
  certPem: string;
  keyPem: string;
  clientCaPem: string;
  pods(): Pod[];
  /** Undefined: the pod is not on this node. */
  find(namespace: string, pod: string): LogSource | undefined;
  metrics: Metrics;
  clock: Clock;
}

export interface LogSource {
  hasContainer(container: string): boolean;
  logPath(container: string, previous: boolean): string | undefined;
  isRunning(container: string): boolean;
}

export interface KubeletServer {
  readonly port: number;
  stop(): Promise<void>;
}

export function startServer(options: ServerOptions): KubeletServer {
  const server = Bun.serve({
    hostname: options.host,
    port: options.port,
    tls: {
      cert: options.certPem,
      key: options.keyPem,
      ca: options.clientCaPem,
      requestCert: true,
      rejectUnauthorized: true,
    },
    fetch(request, self) {
      const url = new URL(request.url);
      if (request.method !== "GET") return text(405, "method not allowed");
      if (url.pathname === "/healthz") return text(200, "ok");
      if (url.pathname === "/pods")
        return Response.json({ kind: "PodList", apiVersion: "v1", metadata: {}, items: options.pods() });
      if (url.pathname === "/metrics")
        return text(200, options.metrics.expose(), "text/plain; version=0.0.4; charset=utf-8");
      if (url.pathname.startsWith("/containerLogs/")) {
        self.timeout(request, 0); // a followed log may be silent for hours
        return logs(options, url);
      }
      return text(404, "404 page not found");
    },
    error: (error) => text(500, messageOf(error)),
  });
  return { port: server.port!, stop: () => server.stop(true) };
}

const text = (status: number, body: string, type = "text/plain; charset=utf-8"): Response =>
  new Response(body.endsWith("\n") ? body : `${body}\n`, { status, headers: { "content-type": type } });

function logs(options: ServerOptions, url: URL): Response {
  const parts = url.pathname.split("/").slice(2).map(decodeURIComponent);
  const [namespace, podName, container] = parts;
  if (parts.length !== 3 || !namespace || !podName || !container)
    return text(400, "expected /containerLogs/<namespace>/<pod>/<container>");
  const parsed = logOptions(url.searchParams, options.clock.now());
  if (typeof parsed === "string") return text(400, parsed);
  const pod = options.find(namespace, podName);
  if (pod === undefined) return text(404, `pod "${podName}" not found`);
  if (!pod.hasContainer(container)) return text(404, `container ${container} not found in pod "${podName}"`);
  const previous = isTrue(url.searchParams.get("previous"));
  const path = pod.logPath(container, previous);
  if (path === undefined)
    return text(
      400,
      previous
        ? `previous terminated container "${container}" in pod "${podName}" not found`
        : `container "${container}" in pod "${podName}" is waiting to start: ContainerCreating`,
    );
  // The path changes with the next run: a followed log ends with its run, as in Kubernetes.
  const isOver = () => !pod.isRunning(container) || pod.logPath(container, previous) !== path;
  return new Response(streamOf(readLog(path, parsed, isOver, options.clock)), {
    headers: { "content-type": "text/plain", "cache-control": "no-store" },
  });
}

function streamOf(chunks: AsyncGenerator<string, void, void>): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { value, done } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
      } catch (error) {
        controller.error(error);
      }
    },
    async cancel() {
      await chunks.return();
    },
  });
}

const isTrue = (value: string | null): boolean => value === "true" || value === "1";

/** The query of corev1.PodLogOptions, or what is wrong with it. */
export function logOptions(query: URLSearchParams, nowMs: number): LogOptions | string {
  const number = (name: string, min: number): number | undefined => {
    const value = query.get(name);
    if (value === null || value === "") return undefined;
    const parsed = Number(value);
    if (!Number.isInteger(parsed) || parsed < min) throw new Error(`${name}: must be an integer of at least ${min}`);
    return parsed;
  };
  try {
    const sinceSeconds = number("sinceSeconds", 1);
    const sinceTime = query.get("sinceTime");
    if (sinceSeconds !== undefined && sinceTime) return "at most one of sinceTime or sinceSeconds may be specified";
    const sinceTimeMs = sinceTime ? Date.parse(sinceTime) : undefined;
    if (Number.isNaN(sinceTimeMs)) return "sinceTime: must be an RFC 3339 time";
    return {
      follow: isTrue(query.get("follow")),
      timestamps: isTrue(query.get("timestamps")),
      tailLines: number("tailLines", 0),
      sinceMs: sinceSeconds === undefined ? sinceTimeMs : nowMs - sinceSeconds * 1000,
      limitBytes: number("limitBytes", 1),
    };
  } catch (error) {
    return messageOf(error);
  }
}
