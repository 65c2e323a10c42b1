// What is known of one request or TCP connection when something about it is formatted, logged or traced.

import type { Head } from "../../wire/http1_head.ts";
import type { HeaderEdits } from "../../wire/http1_write.ts";
import type { ChainOwner, ConnectionInfo } from "../chain.ts";
import type { ClusterSlot, Endpoint } from "../clusters/cluster.ts";
import type { RequestView } from "../http/request.ts";
import type { Route } from "../routing/route.ts";

/** Made for one call and read inside it: the heads it refers to are gone afterwards. */
export interface StreamInfo {
  /** Envoy's access log type. */
  type: "DownstreamEnd" | "TcpConnectionEnd";
  owner: ChainOwner;
  connection: ConnectionInfo;
  /** Whom the request comes from, trusted proxies left out; without such, the connection's remote address. */
  clientAddress: string;
  /** Undefined for TCP and for what was no request at all. */
  request: RequestView | undefined;
  requestEdits: HeaderEdits | undefined;
  /** The answer's fields: as they are while its head is at hand, or those captured because a format names them. */
  responseHead: Head | undefined;
  responseEdits: HeaderEdits | undefined;
  responseHeaders: ReadonlyMap<string, string> | undefined;
  startedAtMs: number;
  durationMs: number;
  /** Milliseconds after the start; -1: has not happened, or no format asked for it. */
  requestEndMs: number;
  responseStartMs: number;
  /** 0: there was no answer. */
  status: number;
  /** Short response flags joined by commas, or "-". */
  flags: string;
  /** RESPONSE_CODE_DETAILS, or "". */
  details: string;
  /** Why the connection was ended, or "". */
  terminationDetails: string;
  /** Why the upstream could not be reached, or "". */
  failure: string;
  requestHeadBytes: number;
  requestBodyBytes: number;
  responseBodyBytes: number;
  /** Head included. */
  responseBytes: number;
  route: Route | undefined;
  cluster: ClusterSlot | undefined;
  endpoint: Endpoint | undefined;
  upstreamLocalAddress: string;
  tries: number;
  metadata: ReadonlyMap<string, unknown> | undefined;
  filterState: ReadonlyMap<string, unknown> | undefined;
  /** 32 hexadecimal digits, or "" when the request is not traced. */
  traceId: string;
  traced: boolean;
  /** Of an answer made here, while it is being made. */
  localReplyBody: string;
}

/** What formats ask for that costs something to keep; empty by default, so that nothing is kept. */
export interface Needs {
  /** Lower case. */
  responseHeaders: Set<string>;
  times: boolean;
  upstreamLocalAddress: boolean;
}

export const noNeeds = (): Needs => ({ responseHeaders: new Set(), times: false, upstreamLocalAddress: false });

/** A field as it leaves the proxy: the received ones that stay, then those added. `name` in lower case. */
export function fieldAfter(head: Head | undefined, edits: HeaderEdits | undefined, name: string): string | undefined {
  let found: string | undefined;
  if (head !== undefined && !edits?.removed?.includes(name))
    for (let i = 0; i < head.count; i++)
      if (head.nameIs(i, name) && edits?.dropIds[head.ids[i]!] !== 1)
        found = found === undefined ? head.value(i) : `${found},${head.value(i)}`;
  return edits === undefined || edits.added === "" ? found : fieldOfLines(edits.added, name, found);
}

/** As `fieldAfter`, from complete header lines. */
export function fieldOfLines(lines: string, name: string, before?: string): string | undefined {
  let found = before;
  for (let at = 0; at < lines.length; ) {
    const end = lines.indexOf("\r\n", at);
    const next = end < 0 ? lines.length : end;
    const colon = lines.indexOf(":", at);
    if (colon - at === name.length && lines.slice(at, colon).toLowerCase() === name) {
      const value = lines.slice(colon + 1, next).trim();
      found = found === undefined ? value : `${found},${value}`;
    }
    at = next + 2;
  }
  return found;
}

/** Of what was not, or not yet, an HTTP request. */
export function plainInfo(
  type: StreamInfo["type"],
  owner: ChainOwner,
  connection: ConnectionInfo,
  startedAtMs: number,
): StreamInfo {
  return {
    type,
    owner,
    connection,
    clientAddress: connection.remoteAddress,
    request: undefined,
    requestEdits: undefined,
    responseHead: undefined,
    responseEdits: undefined,
    responseHeaders: undefined,
    startedAtMs,
    durationMs: 0,
    requestEndMs: -1,
    responseStartMs: -1,
    status: 0,
    flags: "-",
    details: "",
    terminationDetails: "",
    failure: "",
    requestHeadBytes: 0,
    requestBodyBytes: 0,
    responseBodyBytes: 0,
    responseBytes: 0,
    route: undefined,
    cluster: undefined,
    endpoint: undefined,
    upstreamLocalAddress: "",
    tries: 0,
    metadata: undefined,
    filterState: undefined,
    traceId: "",
    traced: false,
    localReplyBody: "",
  };
}
