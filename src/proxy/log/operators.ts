// Envoy's command operators (%REQ(…)%, %DURATION%, …): name → a function of the stream. What costs something to keep is noted in `needs`.

import { hostname } from "node:os";
import { MeshbedError } from "../../kernel/errors.ts";
import { uuid } from "../../kernel/random.ts";
import { certificateOperators } from "./certificate_operators.ts";
import { compileTime } from "./format_time.ts";
import { longFlags } from "./response_flags.ts";
import { fieldAfter, fieldOfLines, type Needs, type StreamInfo } from "./stream_info.ts";

export type Value = string | number | boolean | object | undefined;
export type Operator = (info: StreamInfo) => Value;

const given = (text: string): string | undefined => (text === "" ? undefined : text);
const known = (number: number): number | undefined => (number < 0 ? undefined : number);

/** Without arguments. */
const plain: Readonly<Record<string, Operator>> = {
  PROTOCOL: ({ request }) => request?.protocol,
  RESPONSE_CODE: ({ status }) => status,
  RESPONSE_CODE_DETAILS: ({ details }) => given(details.replaceAll(" ", "_")),
  CONNECTION_TERMINATION_DETAILS: ({ terminationDetails }) => given(terminationDetails),
  UPSTREAM_TRANSPORT_FAILURE_REASON: ({ failure }) => given(failure),
  RESPONSE_FLAGS: ({ flags }) => given(flags === "-" ? "" : flags),
  RESPONSE_FLAGS_LONG: ({ flags }) => given(longFlags(flags)),
  BYTES_RECEIVED: ({ requestBodyBytes }) => requestBodyBytes,
  BYTES_SENT: ({ responseBodyBytes }) => responseBodyBytes,
  REQUEST_HEADERS_BYTES: ({ requestHeadBytes }) => requestHeadBytes,
  DOWNSTREAM_WIRE_BYTES_RECEIVED: ({ requestHeadBytes, requestBodyBytes }) => requestHeadBytes + requestBodyBytes,
  DOWNSTREAM_WIRE_BYTES_SENT: ({ responseBytes }) => responseBytes,
  // Bodies are relayed as they are: what differs between the two sides are a few fields of the head.
  UPSTREAM_WIRE_BYTES_SENT: ({ endpoint, requestHeadBytes, requestBodyBytes }) =>
    endpoint ? requestHeadBytes + requestBodyBytes : 0,
  UPSTREAM_WIRE_BYTES_RECEIVED: ({ endpoint, responseBytes }) => (endpoint ? responseBytes : 0),
  DURATION: ({ durationMs }) => Math.round(durationMs),
  UPSTREAM_HOST: ({ endpoint }) => endpoint?.address,
  UPSTREAM_REMOTE_ADDRESS: ({ endpoint }) => endpoint?.address,
  UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: ({ endpoint }) => endpoint?.transport.host,
  UPSTREAM_REMOTE_PORT: ({ endpoint }) => endpoint?.transport.port,
  UPSTREAM_CLUSTER: ({ cluster }) => cluster?.name,
  UPSTREAM_CLUSTER_RAW: ({ cluster }) => cluster?.name,
  UPSTREAM_REQUEST_ATTEMPT_COUNT: ({ tries }) => tries,
  DOWNSTREAM_LOCAL_ADDRESS: ({ connection: at }) => `${at.localAddress}:${at.localPort}`,
  DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: ({ connection }) => connection.localAddress,
  DOWNSTREAM_LOCAL_PORT: ({ connection }) => connection.localPort,
  DOWNSTREAM_DIRECT_LOCAL_ADDRESS: ({ connection: at }) => `${at.localAddress}:${at.localPort}`,
  DOWNSTREAM_REMOTE_ADDRESS: (info) => remoteAddress(info),
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: ({ clientAddress }) => clientAddress,
  DOWNSTREAM_REMOTE_PORT: ({ connection }) => connection.remotePort,
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS: ({ connection: at }) => `${at.remoteAddress}:${at.remotePort}`,
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: ({ connection }) => connection.remoteAddress,
  DOWNSTREAM_TRANSPORT_FAILURE_REASON: () => undefined,
  REQUESTED_SERVER_NAME: ({ connection }) => given(connection.serverName),
  CONNECTION_ID: ({ connection }) => connectionId(connection),
  ROUTE_NAME: ({ route }) => given(route?.name ?? ""),
  VIRTUAL_CLUSTER_NAME: () => undefined,
  HOSTNAME: () => hostname(),
  STREAM_ID: ({ request, requestEdits }) => request && fieldAfter(request.head, requestEdits, "x-request-id"),
  TRACE_ID: ({ traceId }) => given(traceId),
  UNIQUE_ID: () => uuid(),
  ACCESS_LOG_TYPE: ({ type }) => type,
  LOCAL_REPLY_BODY: ({ localReplyBody }) => given(localReplyBody),
  ...certificateOperators,
};

/** An address out of x-forwarded-for has no port; Envoy writes 0. */
function remoteAddress({ clientAddress, connection: at }: StreamInfo): string {
  return `${clientAddress}:${clientAddress === at.remoteAddress ? at.remotePort : 0}`;
}

const connectionIds = new WeakMap<object, number>();
let lastConnectionId = 0;
/** Numbered when first asked for. */
function connectionId(connection: object): number {
  const before = connectionIds.get(connection);
  if (before !== undefined) return before;
  connectionIds.set(connection, ++lastConnectionId);
  return lastConnectionId;
}

type Factory = (argument: string, needs: Needs) => Operator;

/** With arguments, which Envoy calls subcommands, or with something to note in `needs`. */
const factories: Readonly<Record<string, Factory>> = {
  START_TIME: (format) => {
    const text = compileTime(format);
    return ({ startedAtMs }) => text(startedAtMs);
  },
  EMIT_TIME: (format) => {
    const text = compileTime(format);
    return ({ startedAtMs, durationMs }) => text(startedAtMs + durationMs);
  },
  REQ: (argument) => eitherField(argument, requestField),
  RESP: (argument, needs) => {
    for (const name of namesOf(argument)) needs.responseHeaders.add(name);
    return eitherField(argument, responseField);
  },
  // HTTP/1.1 trailers are relayed without being looked at.
  TRAILER: () => () => undefined,
  PATH: compilePathOperator,
  QUERY_PARAM:
    (name) =>
    ({ request }) =>
      request?.query(name),
  GRPC_STATUS: (format, needs) => grpcStatus(format, needs),
  GRPC_STATUS_NUMBER: (_format, needs) => grpcStatus("NUMBER", needs),
  REQUEST_DURATION: timed(({ requestEndMs }) => known(requestEndMs)),
  RESPONSE_DURATION: timed(({ responseStartMs }) => known(responseStartMs)),
  RESPONSE_TX_DURATION: timed(({ responseStartMs, durationMs }) =>
    responseStartMs < 0 ? undefined : durationMs - responseStartMs,
  ),
  COMMON_DURATION: compileCommonDuration,
  UPSTREAM_LOCAL_ADDRESS: localAddress((address) => address),
  UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: localAddress((address) => address.replace(/:\d+$/, "")),
  UPSTREAM_LOCAL_PORT: localAddress((address) => Number(/\d+$/.exec(address)?.[0])),
  DYNAMIC_METADATA: (path) => inside(path, ({ metadata }, namespace) => metadata?.get(namespace)),
  FILTER_STATE: (argument) => {
    const [key = ""] = argument.split(":");
    return ({ filterState }) => filterState?.get(key) as Value;
  },
  CLUSTER_METADATA: (path) => inside(path, ({ cluster }, namespace) => cluster?.current?.metadata?.[namespace]),
  UPSTREAM_METADATA: (path) => inside(path, ({ endpoint }, namespace) => endpoint?.metadata?.[namespace]),
  METADATA: (argument) => {
    const kind = argument.split(":", 1)[0]!;
    const path = argument.slice(kind.length + 1);
    const name = { DYNAMIC: "DYNAMIC_METADATA", CLUSTER: "CLUSTER_METADATA", UPSTREAM_HOST: "UPSTREAM_METADATA" }[kind];
    if (name === undefined) throw new MeshbedError("FORMAT_INVALID", `METADATA(${kind}) is not supported`);
    return factories[name]!(path, noted);
  },
  ENVIRONMENT: (name) => {
    const value = process.env[name];
    return () => value;
  },
};

const noted: Needs = { responseHeaders: new Set(), times: false, upstreamLocalAddress: false };

/** The operator, or undefined when there is none of that name. */
export function operatorOf(name: string, argument: string | undefined, needs: Needs): Operator | undefined {
  const simple = plain[name];
  if (simple) {
    if (argument !== undefined) throw new MeshbedError("FORMAT_INVALID", `%${name}% takes no arguments`);
    return simple;
  }
  return factories[name]?.(argument ?? "", needs);
}

// ---- fields: "NAME" or "NAME?ALTERNATIVE" ----

const namesOf = (argument: string): string[] => argument.toLowerCase().split("?").slice(0, 2);

function eitherField(argument: string, read: (info: StreamInfo, name: string) => string | undefined): Operator {
  const [first, second] = namesOf(argument);
  if (!first) throw new MeshbedError("FORMAT_INVALID", "%REQ% and %RESP% need the name of a field");
  if (!second) return (info) => read(info, first);
  return (info) => read(info, first) ?? read(info, second);
}

function requestField({ request, requestEdits }: StreamInfo, name: string): string | undefined {
  if (request === undefined) return undefined;
  return name.startsWith(":") ? request.header(name) : fieldAfter(request.head, requestEdits, name);
}

function responseField(info: StreamInfo, name: string): string | undefined {
  if (name === ":status") return String(info.status);
  const captured = info.responseHeaders?.get(name);
  if (captured !== undefined) return captured;
  const { responseHead, responseEdits } = info;
  return responseHead === undefined
    ? responseEdits && fieldOfLines(responseEdits.added, name)
    : fieldAfter(responseHead, responseEdits, name);
}

/** PATH(WQ|NQ:ORIG|PATH|ORIG_OR_PATH): with or without query; before or after rewriting. */
function compilePathOperator(argument: string): Operator {
  const [query = "WQ", which = "ORIG_OR_PATH"] = argument.split(":");
  if (!/^(WQ|NQ|)$/.test(query) || !/^(ORIG|PATH|ORIG_OR_PATH)$/.test(which))
    throw new MeshbedError("FORMAT_INVALID", `%PATH(${argument})%: WQ or NQ, then ORIG, PATH or ORIG_OR_PATH`);
  return (info) => {
    const original = which === "PATH" ? undefined : requestField(info, "x-envoy-original-path");
    const path = original ?? (which === "ORIG" ? undefined : info.request?.path);
    return query === "NQ" ? path?.split("?", 1)[0] : path;
  };
}

// ---- times ----

/** Marks that the moments in between are wanted; the answer in whole milliseconds. */
function timed(read: (info: StreamInfo) => number | undefined): Factory {
  return (_argument, needs) => {
    needs.times = true;
    return (info) => {
      const value = read(info);
      return value === undefined ? undefined : Math.round(value);
    };
  };
}

/** Envoy's names for moments → milliseconds since the start. Downstream and upstream moments of one chunk are the same here. */
const moments: Readonly<Record<string, (info: StreamInfo) => number | undefined>> = {
  DS_RX_BEG: () => 0,
  DS_RX_END: ({ requestEndMs }) => known(requestEndMs),
  US_RX_BEG: ({ responseStartMs }) => known(responseStartMs),
  DS_TX_BEG: ({ responseStartMs }) => known(responseStartMs),
  US_RX_END: ({ responseStartMs, durationMs }) => (responseStartMs < 0 ? undefined : durationMs),
  DS_TX_END: ({ durationMs }) => durationMs,
};

/** COMMON_DURATION(from:to:ms|us|ns) */
function compileCommonDuration(argument: string, needs: Needs): Operator {
  const [from = "", to = "", unit = "ms"] = argument.split(":");
  const [start, end] = [moments[from], moments[to]];
  const scale = { ms: 1, us: 1e3, ns: 1e6 }[unit];
  if (!start || !end || scale === undefined)
    throw new MeshbedError(
      "FORMAT_INVALID",
      `%COMMON_DURATION(${argument})%: two of ${Object.keys(moments).join(", ")}, then ms, us or ns`,
    );
  needs.times = true;
  return (info) => {
    const [a, b] = [start(info), end(info)];
    return a === undefined || b === undefined ? undefined : Math.round((b - a) * scale);
  };
}

// ---- the rest ----

function localAddress(part: (address: string) => Value): Factory {
  return (_argument, needs) => {
    needs.upstreamLocalAddress = true;
    return ({ upstreamLocalAddress: address }) => (address === "" ? undefined : part(address));
  };
}

/** "NAMESPACE:KEY:KEY…" walked down; without keys the whole object. */
function inside(path: string, root: (info: StreamInfo, namespace: string) => unknown): Operator {
  const [namespace = "", ...keys] = path.split(":");
  return (info) => {
    let value = root(info, namespace);
    for (const key of keys)
      value =
        typeof value === "object" && value !== null && Object.hasOwn(value, key)
          ? (value as Record<string, unknown>)[key]
          : undefined;
    return (value ?? undefined) as Value;
  };
}

/** Codes 0 to 16 in gRPC's order. */
const grpcNames = [
  ...["OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists"],
  ...["PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented"],
  ...["Internal", "Unavailable", "DataLoss", "Unauthenticated"],
];

/** CAMEL_STRING (default), SNAKE_STRING or NUMBER. Only a status in the head is seen. */
function grpcStatus(format: string, needs: Needs): Operator {
  if (!/^(|CAMEL_STRING|SNAKE_STRING|NUMBER)$/.test(format))
    throw new MeshbedError("FORMAT_INVALID", `%GRPC_STATUS(${format})%: CAMEL_STRING, SNAKE_STRING or NUMBER`);
  needs.responseHeaders.add("grpc-status");
  return (info) => {
    const text = responseField(info, "grpc-status");
    if (text === undefined) return undefined;
    const name = grpcNames[Number(text)];
    if (format === "NUMBER" || name === undefined) return Number(text);
    return format === "SNAKE_STRING" ? name.replace(/(?<=[a-z])[A-Z]/g, "_$&").toUpperCase() : name;
  };
}
