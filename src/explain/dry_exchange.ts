// One request at one HTTP chain, taken through the proxy's own steps up to where it would be sent on; nothing is sent.

import type { HttpFilter } from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { MeshbedError } from "../kernel/errors.ts";
import type { ConnectionInfo, HttpChain, Runtime } from "../proxy/chain.ts";
import type { Filter } from "../proxy/filter.ts";
import { compileFilters } from "../proxy/filters/registry.ts";
import { type FilteredRequest, FilterRun } from "../proxy/http/filter_run.ts";
import type { Forwarding } from "../proxy/http/forwarding.ts";
import { prepareForward, prepareRequest, writeRequestHead } from "../proxy/http/headers.ts";
import { RequestView } from "../proxy/http/request.ts";
import { plainInfo, type StreamInfo } from "../proxy/log/stream_info.ts";
import { lacksTls, redirectToHttps } from "../proxy/routing/require_tls.ts";
import {
  type ForwardAction,
  findRoute,
  findVirtualHost,
  type Route,
  type VirtualHost,
  type WeightedTarget,
} from "../proxy/routing/route.ts";
import { setClientCert } from "../proxy/tls/client_cert.ts";
import { Head, scanRequestHead } from "../wire/http1_head.ts";
import { HeadWriter, newEdits } from "../wire/http1_write.ts";
import type { DryNode } from "./dry_node.ts";

/** An answer that a proxy gives by itself. */
export interface Answer {
  status: number;
  flag: string;
  details: string;
  body: string;
  /** Complete lines. */
  headers: string;
}

/** A filter of the chain and the message it was made from. */
export interface NamedFilter {
  message: HttpFilter;
  filter: Filter;
}

export function filtersOf(dry: DryNode, messages: readonly HttpFilter[]): NamedFilter[] {
  const { runtime } = dry;
  const deps = { clock: runtime.clock, random: runtime.random, runtime, cluster: (name: string) => slotOf(dry, name) };
  return messages.flatMap((message) => compileFilters([message], deps).map((filter) => ({ message, filter })));
}

/** A cluster the node was told of. */
export function slotOf({ node }: DryNode, name: string) {
  const slot = node.clusters.get(name);
  if (slot === undefined)
    throw new MeshbedError("EXPLAIN_NO_CLUSTER", `cluster ${name} is not known to ${node.nodeId}`);
  return slot;
}

const writer = new HeadWriter();

export class DryExchange implements FilteredRequest {
  readonly active = true;
  readonly request = new RequestView();
  readonly requestEdits = newEdits();
  readonly responseEdits = newEdits();
  readonly client: ConnectionInfo;
  readonly forwarding = {} as Forwarding;
  chain: HttpChain;
  virtualHost: VirtualHost | undefined;
  matchedRoute: Route | undefined;
  /** Set once a proxy's filter, or the proxy itself, has answered. */
  answer: Answer | undefined;
  readonly flags: string[] = [];
  /** Of faults injected. */
  delayMs = 0;
  /** What filters see. */
  readonly run: FilterRun;
  readonly #whole: HttpChain;
  #later: (() => void) | undefined;
  #passed: (() => void) | undefined;

  constructor({ runtime }: DryNode, chain: HttpChain, client: ConnectionInfo) {
    this.#whole = chain;
    this.chain = chain;
    this.client = client;
    const after = (delayMs: number, callback: () => void) => {
      this.delayMs += delayMs;
      this.#later = callback;
      return () => {};
    };
    const clock = { ...callsOf(runtime), after };
    this.run = new FilterRun({ ...runtime, clock } as Runtime, this);
  }

  /** Reads the head and finds the route; `answer` is set if that already ends it. */
  start(bytes: Buffer): void {
    const { request, chain, client } = this;
    const head = new Head();
    request.reset(client);
    if (
      scanRequestHead(head, bytes, 0, bytes.length) !== bytes.length ||
      !request.read(head, client.secure ? "https" : "http", chain.escapedSlashes)
    ) {
      this.reply(400, "", "DPE", "", "path_normalization_failed");
      return;
    }
    if (request.redirects) {
      this.reply(307, "", "-", `location: ${request.path}\r\n`, "path_normalization_failed");
      return;
    }
    if (chain.hostRules !== undefined) request.stripHost(chain.hostRules, client.localPort);
    prepareRequest(this.requestEdits, request, chain, client);
    // There is no session to read the certificate from; whose it is, is known.
    if (chain.inbound && client.peer.authenticated)
      setClientCert(this.requestEdits, chain.clientCert, chain.owner.identity, client.peer.identity);
    this.clearRouteCache();
  }

  /** Lets one filter look at the request. Resolves when it has decided; `answer` is set if it refused. */
  async filter(filter: Filter): Promise<void> {
    if (this.matchedRoute?.filtersOff?.has(filter.name)) return;
    this.#later = undefined;
    const decided = new Promise<void>((resolve) => {
      this.#passed = resolve;
    });
    this.chain = { ...this.#whole, filters: [filter] };
    this.run.run(this.chain, 0);
    // A delay is over at once here; then it goes on, or aborts.
    (this.#later as (() => void) | undefined)?.();
    await decided;
    this.chain = this.#whole;
  }

  /** The head as the target gets it. */
  forward(action: ForwardAction, target: WeightedTarget): Buffer {
    prepareForward(this.requestEdits, this.request, this.#whole, action, target, this);
    writer.clear();
    writeRequestHead(writer, this.request, this.requestEdits, false);
    return Buffer.from(writer.buffer.subarray(0, writer.length));
  }

  // ---- what the run asks for ----

  reply(status: number, body: string, flag: string, headers = "", details = ""): void {
    this.answer ??= { status, flag, details, body, headers };
    this.#passed?.();
  }
  onFiltered(): void {
    this.#passed?.();
  }
  clearRouteCache(): void {
    const { request, client } = this;
    const chain = this.#whole;
    const table = chain.routes.current;
    const host = table && findVirtualHost(table, request.host);
    this.virtualHost = host;
    const toHttps = host?.requireTls && lacksTls(host.requireTls, request, client, chain.edge);
    this.matchedRoute = toHttps ? redirectToHttps : host && findRoute(host, request);
  }
  addResponseHeader(line: string): void {
    this.responseEdits.added += line;
  }
  addFlag(flag: string): void {
    this.flags.push(flag);
  }
  flush(): void {}
  push(): boolean {
    return true;
  }
  end(): void {}
  onRoom(): void {}
  streamInfo(): StreamInfo {
    const { chain, client, request, requestEdits, matchedRoute } = this;
    return {
      ...plainInfo("DownstreamEnd", chain.owner, client, 0),
      clientAddress: this.run.remoteAddress,
      request,
      requestEdits,
      route: matchedRoute,
      metadata: request.metadata,
    };
  }
}

/** A class's methods as a plain object, so that some can be replaced. */
const callsOf = ({ clock }: Runtime) => ({
  now: () => clock.now(),
  monotonicMs: () => clock.monotonicMs(),
  every: clock.every.bind(clock),
  sleep: clock.sleep.bind(clock),
});
