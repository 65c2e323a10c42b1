// Asks an authorization service over gRPC (envoy.service.auth.v3.Authorization/Check): who calls whom with what, as Envoy describes it.

import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { HeaderValueOption } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import type { GrpcService } from "#gen/xds/envoy/config/core/v3/grpc_service_pb.js";
import type { AttributeContextSchema } from "#gen/xds/envoy/service/auth/v3/attribute_context_pb.js";
import { CheckRequestSchema, CheckResponseSchema } from "#gen/xds/meshbed/authz/v1/ext_authz_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { unknownWorkload } from "../clusters/cluster.ts";
import { GrpcClient } from "../clusters/grpc_client.ts";
import { durationMs } from "../compile/any.ts";
import type { FilterDeps, FilterRequest } from "../filter.ts";
import type { Check, Field } from "./ext_authz.ts";

/** Envoy's default of grpc_service.timeout. */
const timeoutDefaultMs = 200;
const path = "/envoy.service.auth.v3.Authorization/Check";
const deniedDefault = 403;

/** `shows`: whether a field of the request is shown. */
export function compileGrpcCheck(
  name: string,
  { targetSpecifier: target, timeout }: GrpcService,
  shows: (field: string) => boolean,
  { cluster, clock, runtime }: FilterDeps,
): Check {
  if (target.case !== "envoyGrpc")
    throw new MeshbedError("EXT_AUTHZ_UNSUPPORTED", `${name}: grpc_service needs envoy_grpc`);
  const { clusterName, authority } = target.value;
  const client = new GrpcClient(
    {
      slot: cluster(clusterName),
      authority: authority || clusterName,
      path,
      metadata: {},
      timeoutMs: durationMs(timeout, timeoutDefaultMs),
    },
    () => unknownWorkload,
    runtime,
  );
  return async (exchange) => {
    const asked = create(CheckRequestSchema, { attributes: attributesOf(exchange, shows, clock.now()) });
    const { status, httpResponse } = fromBinary(
      CheckResponseSchema,
      await client.call(toBinary(CheckRequestSchema, asked)),
    );
    if ((status?.code ?? 0) === 0) {
      const ok = httpResponse.case === "okResponse" ? httpResponse.value : undefined;
      const headers = ok?.headers ?? [];
      return {
        allowed: true,
        // As Envoy reads OkHttpResponse: a field replaces the request's unless `append` says otherwise.
        set: fieldsOf(headers.filter(({ append }) => append !== true)),
        append: fieldsOf(headers.filter(({ append }) => append === true)),
        remove: (ok?.headersToRemove ?? []).map((field) => field.toLowerCase()).filter(isRemovable),
        answer: fieldsOf(ok?.responseHeadersToAdd ?? []),
      };
    }
    const denied = httpResponse.case === "deniedResponse" ? httpResponse.value : undefined;
    return {
      allowed: false,
      status: denied?.status?.code || deniedDefault,
      body: denied?.body ?? "",
      headers: fieldsOf(denied?.headers ?? []),
    };
  };
}

const isRemovable = (field: string): boolean => field !== "" && field !== "host" && !field.startsWith(":");

/** Lines are made of these: what would break one is left out. */
const fieldsOf = (options: readonly HeaderValueOption[]): Field[] =>
  options.flatMap(({ header }): Field[] => {
    const { key = "", value = "", rawValue } = header ?? {};
    const text = value || Buffer.from(rawValue ?? []).toString("latin1");
    return /^[\w!#$%&'*+.^`|~-]+$/.test(key) && !/[\r\n\0]/.test(text) ? [[key.toLowerCase(), text]] : [];
  });

function attributesOf(
  { request, connection, remoteAddress }: FilterRequest,
  shows: (field: string) => boolean,
  nowMs: number,
): MessageInitShape<typeof AttributeContextSchema> {
  const headers: Record<string, string> = {
    ":authority": request.authority,
    ":method": request.method,
    ":path": request.path,
    ":scheme": request.scheme,
  };
  const { head } = request;
  for (let i = 0; i < head.count; i++) {
    const field = head.name(i).toLowerCase();
    const value = field === "host" ? undefined : request.header(field);
    if (value !== undefined && shows(field)) headers[field] = value;
  }
  const { identity, authenticated } = connection.peer;
  return {
    source: {
      address: socketAddress(remoteAddress, connection.remotePort),
      principal: authenticated ? identity.principal : "",
    },
    destination: { address: socketAddress(connection.localAddress, connection.localPort) },
    request: {
      time: timestampFromMs(nowMs),
      http: {
        id: request.requestId,
        method: request.method,
        headers,
        path: request.path,
        host: request.authority,
        scheme: request.scheme,
        protocol: request.isHttp2 ? "HTTP/2" : "HTTP/1.1",
        size: -1n,
      },
    },
  };
}

const socketAddress = (address: string, portValue: number) => ({
  address: {
    case: "socketAddress",
    value: { address, portSpecifier: { case: "portValue", value: portValue } },
  } as const,
});
