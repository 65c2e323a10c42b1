// Answers health checks for the application (envoy.filters.http.health_check without pass-through): 200, and 503 once the proxy drains.

import { HealthCheckSchema } from "#gen/xds/envoy/extensions/filters/http/health_check/v3/health_check_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import type { FilterFactory } from "../filter.ts";
import { compileHeader } from "../routing/match.ts";

export const healthCheckFactory: FilterFactory<typeof HealthCheckSchema, typeof HealthCheckSchema> = {
  config: HealthCheckSchema,
  perRoute: HealthCheckSchema,
  create(name, config, { runtime }) {
    if (config.cacheTime !== undefined || Object.keys(config.clusterMinHealthyPercentages).length > 0)
      throw new MeshbedError(
        "HEALTH_CHECK_UNSUPPORTED",
        `${name}: cache_time and cluster_min_healthy_percentages are not supported`,
      );
    const tests = config.headers.map(compileHeader);
    return {
      name,
      onRequest(exchange) {
        if (config.passThroughMode || !tests.every((test) => test(exchange.request))) return "continue";
        if (runtime.draining)
          exchange.reply(503, "", "-", "x-envoy-immediate-health-check-fail: true\r\n", "health_check_failed");
        else exchange.reply(200, "", "-", "", "health_check_ok");
        return "stop";
      },
    };
  },
  settings() {
    throw new MeshbedError("HEALTH_CHECK_UNSUPPORTED", "the health check filter has no settings of routes");
  },
};
