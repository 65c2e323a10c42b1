// Zipkin's span list (API v2, JSON).

import type { FinishedSpan } from "./tracing.ts";

export function encodeZipkin(spans: readonly FinishedSpan[], serviceName: string): string {
  return JSON.stringify(
    spans.map((span) => ({
      traceId: span.traceId,
      id: span.spanId,
      ...(span.parentId !== "" && { parentId: span.parentId }),
      name: span.name,
      kind: span.kind.toUpperCase(),
      timestamp: Math.round(span.startedAtMs * 1000),
      duration: Math.max(1, Math.round(span.durationMs * 1000)),
      localEndpoint: { serviceName },
      ...(span.shared && { shared: true }),
      tags: Object.fromEntries(span.tags),
    })),
  );
}
