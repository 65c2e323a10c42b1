// Authorization by a service that is asked for each request (envoy.filters.http.ext_authz): over HTTP or gRPC; its answer decides.

import {
  type ExtAuthz,
  type ExtAuthzPerRoute,
  ExtAuthzPerRouteSchema,
  ExtAuthzSchema,
} from "#gen/xds/envoy/extensions/filters/http/ext_authz/v3/ext_authz_pb.js";
import { MeshbedError, messageOf } from "../../kernel/errors.ts";
import type { Filter, FilterDeps, FilterFactory, FilterRequest } from "../filter.ts";
import { compileMetadata } from "../routing/match.ts";
import { compileHttpCheck, listTest } from "./ext_authz_http.ts";

/** What the service says. Names in lower case. */
export type Decision =
  | {
      allowed: true;
      /** Fields of the request as it goes on: set, appended, removed. */
      set: readonly Field[];
      append: readonly Field[];
      remove: readonly string[];
      /** Fields that the answer gets. */
      answer: readonly Field[];
    }
  | { allowed: false; status: number; body: string; headers: readonly Field[] };

export type Field = readonly [name: string, value: string];

/** Asks the service; rejects when it cannot be asked or does not know. */
export type Check = (exchange: FilterRequest) => Promise<Decision>;

/** Details and flag are Envoy's. */
const flag = "UAEX";

function create(name: string, config: ExtAuthz, deps: FilterDeps): Filter {
  if (config.withRequestBody !== undefined)
    throw new MeshbedError("EXT_AUTHZ_UNSUPPORTED", `${name}: with_request_body is not supported`);
  const check = compileCheck(name, config, deps);
  const enabled = config.filterEnabledMetadata && compileMetadata(config.filterEnabledMetadata);
  const statusOnError = config.statusOnError?.code || 403;
  const { failureModeAllow, failureModeAllowHeaderAdd, clearRouteCache } = config;

  const failed = (exchange: FilterRequest): void => {
    if (!failureModeAllow) return exchange.reply(statusOnError, "", flag, "", "ext_authz_error");
    if (failureModeAllowHeaderAdd) exchange.setRequestHeader("x-envoy-auth-failure-mode-allowed", "true");
    exchange.resume();
  };
  const decided = (exchange: FilterRequest, decision: Decision): void => {
    if (!decision.allowed) {
      exchange.reply(decision.status, decision.body, flag, linesOf(decision.headers), "ext_authz_denied");
      return;
    }
    for (const field of decision.remove) exchange.removeRequestHeader(field);
    for (const [field, value] of decision.set) exchange.setRequestHeader(field, value);
    for (const [field, value] of decision.append) {
      const before = exchange.request.header(field);
      exchange.setRequestHeader(field, before === undefined ? value : `${before},${value}`);
    }
    if (decision.answer.length > 0) exchange.addResponseHeader(linesOf(decision.answer));
    if (clearRouteCache) exchange.clearRouteCache();
    exchange.resume();
  };
  return {
    name,
    onRequest(exchange) {
      const perRoute = exchange.settings(name) as ExtAuthzPerRoute["override"] | undefined;
      if (perRoute?.case === "disabled" && perRoute.value) return "continue";
      if (enabled && !enabled((filter) => exchange.metadata(filter))) return "continue";
      // The exchange serves the next request after this one: a late verdict must not reach that.
      let active = true;
      exchange.whenOver(() => {
        active = false;
      });
      check(exchange).then(
        (decision) => active && decided(exchange, decision),
        (error) => {
          deps.runtime.log.debug("authorization could not be asked for", { filter: name, reason: messageOf(error) });
          if (active) failed(exchange);
        },
      );
      return "stop";
    },
  };
}

function compileCheck(
  name: string,
  { services, allowedHeaders, disallowedHeaders }: ExtAuthz,
  deps: FilterDeps,
): Check {
  const lists = { allowed: allowedHeaders, disallowed: disallowedHeaders };
  if (services.case === "httpService") return compileHttpCheck(name, services.value, lists, deps);
  if (services.case !== "grpcService")
    throw new MeshbedError("EXT_AUTHZ_INVALID", `${name}: neither http_service nor grpc_service`);
  const { compileGrpcCheck } = require("./ext_authz_grpc.ts") as typeof import("./ext_authz_grpc.ts");
  const disallowed = listTest(disallowedHeaders);
  // Without a list a service asked by gRPC is shown everything.
  const allowed = allowedHeaders ? listTest(allowedHeaders) : () => true;
  return compileGrpcCheck(name, services.value, (field) => allowed(field) && !disallowed(field), deps);
}

const linesOf = (fields: readonly Field[]): string => fields.map(([name, value]) => `${name}: ${value}\r\n`).join("");

export const extAuthzFactory: FilterFactory<typeof ExtAuthzSchema, typeof ExtAuthzPerRouteSchema> = {
  config: ExtAuthzSchema,
  perRoute: ExtAuthzPerRouteSchema,
  create,
  settings: ({ override }) => override,
};
