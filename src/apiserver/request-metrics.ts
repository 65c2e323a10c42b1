// Request counts, durations and open watches, under the names kube-apiserver uses.

import type { Clock } from "../kernel/clock.ts";
import { type Metrics, observe } from "../kernel/metrics.ts";
import { parsePath } from "./path.ts";
import type { Answer, CoreRequest } from "./types.ts";

/** Called when a request arrives; what it answers, when its answer is known. */
export type Observe = (request: Pick<CoreRequest, "method" | "path" | "query">) => (answer: Answer) => void;

const secondsBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export function observeRequests(metrics: Metrics, clock: Clock): Observe {
  return ({ method, path, query }) => {
    const startMs = clock.monotonicMs();
    return (answer) => {
      const target = parsePath(path);
      // Only names that are served become labels: paths are the caller's invention.
      const known = target.kind === "resource" && !(answer.kind === "json" && answer.status === 404);
      const resource = known && target.kind === "resource" ? target.plural : "";
      const verb = query["watch"] ? "WATCH" : method;
      const code = answer.kind === "json" || answer.kind === "text" ? String(answer.status) : "200";
      metrics.counter("apiserver_request_total", "Requests by verb, resource and code.", { verb, resource, code })
        .value++;
      if (answer.kind === "json")
        observe(
          metrics.histogram(
            "apiserver_request_duration_seconds",
            "Time to answer, without watches and logs.",
            secondsBounds,
            {
              verb,
              resource,
            },
          ),
          (clock.monotonicMs() - startMs) / 1000,
        );
    };
  };
}
