// How a connection manager treats the fields proxies tell each other: forwarded-*, request ids, via, server, x-envoy-*.

import type { Any } from "@bufbuild/protobuf/wkt";
import { RouterSchema } from "#gen/xds/envoy/extensions/filters/http/router/v3/router_pb.js";
import {
  type HttpConnectionManager,
  HttpConnectionManager_ServerHeaderTransformation as ServerHeader,
} from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { uuid } from "../../kernel/random.ts";
import { known } from "../../wire/http1_head.ts";
import { type HeaderEdits, removeHeader, setHeader } from "../../wire/http1_write.ts";
import type { ConnectionInfo, HttpChain } from "../chain.ts";
import { unpack } from "../compile/any.ts";
import { fieldAfter } from "../log/stream_info.ts";
import { compileCidr } from "../routing/cidr.ts";
import { trustedAddress } from "./forwarded.ts";
import type { RequestView } from "./request.ts";

export interface HeaderPolicy {
  /** Our peer's address is not added to x-forwarded-for. */
  skipXffAppend: boolean;
  /** x-forwarded-port is written at the edge. */
  appendPort: boolean;
  /** Added to Via, both ways; "" for not. */
  via: string;
  generateRequestId: boolean;
  /** At the edge a client's own request id is kept. */
  preserveRequestId: boolean;
  requestIdInResponse: boolean;
  /** Every answer gets fields by `answerFields`. */
  addsToAnswers: boolean;
  /** Addresses whose x-envoy-* fields are believed; undefined: none, as in Envoy unless configured. */
  isInternal: ((address: string) => boolean) | undefined;
  /** The answer's own Server field stays when there is one. */
  serverIfAbsent: boolean;
  /** The router adds no x-envoy-* fields. */
  suppressEnvoy: boolean;
}

export function compileHeaderPolicy(http: HttpConnectionManager): HeaderPolicy {
  const ranges = (http.internalAddressConfig?.cidrRanges ?? []).map(compileCidr);
  const router = http.httpFilters.at(-1)?.configType;
  return {
    skipXffAppend: http.skipXffAppend,
    appendPort: http.appendXForwardedPort,
    via: http.via,
    generateRequestId: http.generateRequestId ?? true,
    preserveRequestId: http.preserveExternalRequestId,
    requestIdInResponse: http.alwaysSetRequestIdInResponse,
    addsToAnswers: http.alwaysSetRequestIdInResponse || http.via !== "",
    isInternal: ranges.length === 0 ? undefined : (address) => ranges.some((range) => range(address)),
    serverIfAbsent: http.serverHeaderTransformation === ServerHeader.APPEND_IF_ABSENT,
    suppressEnvoy: router?.case === "typedConfig" && suppresses(router.value),
  };
}

const suppresses = (config: Any): boolean => unpack(config, RouterSchema)?.suppressEnvoyHeaders ?? false;

/** Fields every forwarded request gets (Envoy's HTTP connection manager). Before the route is chosen. */
export function forwardFields(
  edits: HeaderEdits,
  request: RequestView,
  chain: HttpChain,
  connection: ConnectionInfo,
): void {
  const { policy, edge } = chain;
  const internal = policy.isInternal?.(clientAddress(request, chain, connection)) ?? false;
  const external = edge && !internal;
  if (request.has(known.envoy)) sanitize(edits, request, internal, external);
  if (internal) setField(edits, request, "x-envoy-internal", "true");
  if (edge) forwardAtEdge(edits, request, chain, connection);
  else if (!request.has(known.xForwardedProto)) edits.added += `x-forwarded-proto: ${request.scheme}\r\n`;
  if (external) edits.added += `x-envoy-external-address: ${clientAddress(request, chain, connection)}\r\n`;
  if (policy.generateRequestId) identify(edits, request, external && !policy.preserveRequestId);
  if (policy.via !== "") addVia(edits, fieldAfter(request.head, edits, "via"), policy.via);
}

const clientAddress = (
  request: RequestView,
  { edge, trustedHops }: HttpChain,
  { remoteAddress }: ConnectionInfo,
): string => trustedAddress(request, remoteAddress, edge, trustedHops);

/** use_remote_address: what the client says of itself is not believed, unless it is a trusted proxy. */
function forwardAtEdge(
  edits: HeaderEdits,
  request: RequestView,
  { policy, trustedHops }: HttpChain,
  { remoteAddress, localPort }: ConnectionInfo,
): void {
  if (!policy.skipXffAppend) {
    const has = request.has(known.xForwardedFor);
    if (has) edits.dropIds[known.xForwardedFor] = 1;
    const list = has ? `${request.head.get("x-forwarded-for")}, ${remoteAddress}` : remoteAddress;
    edits.added += `x-forwarded-for: ${list}\r\n`;
  }
  if (trustedHops === 0 || !request.has(known.xForwardedProto)) {
    edits.dropIds[known.xForwardedProto] = 1;
    edits.added += `x-forwarded-proto: ${request.scheme}\r\n`;
  }
  if (policy.appendPort && (trustedHops === 0 || request.header("x-forwarded-port") === undefined))
    setField(edits, request, "x-forwarded-port", String(localPort));
}

function identify(edits: HeaderEdits, request: RequestView, anew: boolean): void {
  if (request.has(known.xRequestId)) {
    if (!anew) return;
    edits.dropIds[known.xRequestId] = 1;
  }
  edits.added += `x-request-id: ${uuid()}\r\n`;
}

/** From outside the mesh; what they ask for is only done for internal clients. */
const internalOnly = new Set(
  [
    ...["retry-on", "retry-grpc-on", "max-retries", "retriable-status-codes", "retriable-header-names"],
    ...["upstream-alt-stat-name", "upstream-rq-timeout-ms", "upstream-rq-per-try-timeout-ms"],
    ...["upstream-rq-timeout-alt-response", "expected-rq-timeout-ms", "force-trace", "ip-tags", "original-url"],
    "hedge-on-per-try-timeout",
  ].map((name) => `x-envoy-${name}`),
);
const edgeOnly = new Set(
  ["decorator-operation", "downstream-service-cluster", "downstream-service-node", "external-address"].map(
    (name) => `x-envoy-${name}`,
  ),
);

function sanitize(edits: HeaderEdits, request: RequestView, internal: boolean, external: boolean): void {
  const { head } = request;
  for (let i = 0; i < head.count; i++) {
    if (head.ids[i] !== known.envoy) continue;
    const name = head.name(i);
    const remove =
      name === "x-envoy-internal" || (!internal && internalOnly.has(name)) || (external && edgeOnly.has(name));
    if (!remove) continue;
    request.override(name, undefined);
    removeHeader(edits, name);
  }
}

function setField(edits: HeaderEdits, request: RequestView, name: string, value: string): void {
  request.override(name, value);
  setHeader(edits, name, value);
}

function addVia(edits: HeaderEdits, before: string | undefined, via: string): void {
  setHeader(edits, "via", before === undefined ? via : `${before}, ${via}`);
}

/** Fields of every answer, whoever made it. `before`: the upstream's Via. */
export function answerFields(
  edits: HeaderEdits,
  request: RequestView,
  requestEdits: HeaderEdits,
  policy: HeaderPolicy,
  before: string | undefined,
): void {
  if (policy.via !== "") addVia(edits, before, policy.via);
  if (!policy.requestIdInResponse) return;
  const id = fieldAfter(request.head, requestEdits, "x-request-id");
  if (id !== undefined) setHeader(edits, "x-request-id", id);
}
