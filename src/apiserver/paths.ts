// Paths that are not resources: health, version, metrics, discovery, OpenAPI.

import type { KindDefinition } from "../api/kind.ts";
import type { Metrics } from "../kernel/metrics.ts";
import { methodNotAllowed, unknownResource } from "./failure.ts";
import type { Answer, CoreRequest } from "./types.ts";

/** The Kubernetes version whose API this is (apimachinery version.Info). */
const versionInfo = {
  major: "1",
  minor: "32",
  gitVersion: "v1.32.0+meshbed",
  gitCommit: "",
  gitTreeState: "clean",
  buildDate: "2026-11-01T00:00:00Z",
  goVersion: "none",
  compiler: "bun",
  platform: `${process.platform}/${process.arch === "x64" ? "amd64" : process.arch}`,
};

const healthPaths = new Set(["/healthz", "/livez", "/readyz"]);
const healthy: Answer = { kind: "text", status: 200, contentType: "text/plain; charset=utf-8", text: "ok" };

const json = (body: unknown) => ({ kind: "json" as const, status: 200, body, warnings: [] });

export interface PathOptions {
  kinds: readonly KindDefinition[];
  metrics: Metrics;
  /** host:port, as discovery tells it. */
  serverAddress: string;
}

export async function answerPath(
  request: CoreRequest,
  { kinds, metrics, serverAddress }: PathOptions,
): Promise<Answer> {
  const { path, method, accept, query } = request;
  if (method !== "GET" && method !== "HEAD") throw healthPaths.has(path) ? methodNotAllowed() : unknownResource();
  if (healthPaths.has(path)) return healthy;
  if (path === "/version" || path === "/version/") return json(versionInfo);
  if (path === "/metrics")
    return { kind: "text", status: 200, contentType: "text/plain; version=0.0.4", text: metrics.expose() };
  if (path.startsWith("/openapi/")) {
    const { openApiDocument } = await import("./openapi.ts");
    const document = openApiDocument(path, query["hash"]);
    if (document !== undefined) {
      const { contentType, text, etag, immutable } = document;
      const cacheControl = immutable ? "public, immutable, max-age=31536000" : "no-cache, private";
      const headers = { etag, "cache-control": cacheControl, vary: "Accept" };
      return { kind: "text", status: 200, contentType, text, headers };
    }
  } else {
    const { discover } = await import("./discovery.ts");
    const found = discover(kinds, path, accept, serverAddress);
    if (found !== undefined) return { ...json(found.body), contentType: found.contentType };
  }
  throw unknownResource();
}
