// A request as its filters see it: runs a chain's filters in order, stops and goes on, and keeps what they share. Reused request after request.

import type { Cancel } from "../../kernel/clock.ts";
import type { Framing } from "../../wire/http1_body.ts";
import type { Head } from "../../wire/http1_head.ts";
import { type HeaderEdits, removeHeader, setHeader } from "../../wire/http1_write.ts";
import type { ConnectionInfo, HttpChain, Runtime } from "../chain.ts";
import type { BodySink, BodyTransform, FilterRequest } from "../filter.ts";
import { asSeenBy } from "../inbound.ts";
import { fieldAfter, type StreamInfo } from "../log/stream_info.ts";
import type { HeaderRules, Route } from "../routing/route.ts";
import { trustedAddress } from "./forwarded.ts";
import type { Forwarding } from "./forwarding.ts";
import { addRules } from "./headers.ts";
import type { RequestView } from "./request.ts";
import { ResponseView } from "./response.ts";

/** The exchange whose request is filtered. */
export interface FilteredRequest extends BodySink {
  readonly active: boolean;
  readonly request: RequestView;
  readonly requestEdits: HeaderEdits;
  readonly responseEdits: HeaderEdits;
  readonly client: ConnectionInfo;
  readonly chain: HttpChain;
  readonly forwarding: Forwarding;
  readonly matchedRoute: Route | undefined;
  reply(status: number, body: string, flags: string, headers?: string, details?: string): void;
  clearRouteCache(): void;
  addResponseHeader(line: string): void;
  addFlag(flag: string): void;
  /** All of `chain`'s filters have let the request through. */
  onFiltered(chain: HttpChain): void;
  flush(): void;
  streamInfo(): StreamInfo;
}

export class FilterRun implements FilterRequest {
  readonly request: RequestView;
  readonly #runtime: Runtime;
  readonly #of: FilteredRequest;
  /** The chain whose filters run, or look at the answer. */
  #chain: HttpChain | undefined;
  #index = 0;
  #timer: Cancel | undefined;
  #state: Map<string, unknown> | undefined;
  #endings: (() => void)[] | undefined;
  /** Made when the first answer meets a response filter. */
  #response: ResponseView | undefined;

  constructor(runtime: Runtime, of: FilteredRequest) {
    this.#runtime = runtime;
    this.#of = of;
    this.request = of.request;
  }

  /** Before each request. */
  reset(): void {
    this.#chain = undefined;
    this.#state = undefined;
  }

  run(chain: HttpChain, from: number): void {
    const { filters } = chain;
    for (let i = from; i < filters.length; i++) {
      this.#chain = chain;
      this.#index = i;
      if (this.route?.filtersOff?.has(filters[i]!.name)) continue;
      if (filters[i]!.onRequest(this) === "stop") return;
    }
    this.#chain = undefined;
    this.#of.onFiltered(chain);
  }
  resume(): void {
    const chain = this.#chain;
    if (!this.#of.active || !chain) return;
    this.run(chain, this.#index + 1);
    this.#of.flush();
  }

  /** From the endpoint outwards: a neighbour's filters, then this chain's. */
  respond(status: number, head: Head | undefined, framing: Framing | "local"): void {
    const { chain, forwarding, responseEdits } = this.#of;
    const near = forwarding.neighbour?.responders;
    if (chain.responders.length === 0 && !near?.length) return;
    this.#response ??= new ResponseView(responseEdits, this.#of);
    if (near) {
      this.#chain = forwarding.neighbour;
      this.#response.filter(status, head, framing, near, this);
    }
    this.#chain = chain;
    this.#response.filter(status, head, framing, chain.responders, this);
    this.#chain = undefined;
  }
  /** What the answer's body goes through. */
  get transform(): BodyTransform | undefined {
    return this.#response?.transform;
  }

  finish(): void {
    this.#chain = undefined;
    this.#timer?.();
    this.#timer = undefined;
    const endings = this.#endings;
    if (endings !== undefined) {
      this.#endings = undefined;
      for (const ending of endings) ending();
    }
    const response = this.#response;
    if (response?.transform === undefined) return;
    response.transform.abort();
    response.transform = undefined;
  }

  // ---- for filters ----

  after(delayMs: number, callback: () => void): void {
    this.#timer = this.#runtime.clock.after(delayMs, () => {
      this.#timer = undefined;
      callback();
    });
  }
  reply(status: number, body: string, flags: string, headers?: string, details?: string): void {
    this.#of.reply(status, body, flags, headers, details);
  }
  get route(): Route | undefined {
    const { chain, matchedRoute, forwarding } = this.#of;
    return this.#chain === chain ? matchedRoute : forwarding.neighbourRoute;
  }
  settings(name: string): unknown {
    return this.route?.filterSettings.get(name);
  }
  clearRouteCache(): void {
    // A neighbour's route stands: it only leads to the workload's own port.
    if (this.#chain === this.#of.chain) this.#of.clearRouteCache();
  }
  /** As the running filter's chain sees it: for a neighbour's filters we are an authenticated peer at its port. */
  get connection(): ConnectionInfo {
    const { client, chain, forwarding } = this.#of;
    const to = forwarding.destination;
    if (this.#chain === chain || to === undefined) return client;
    return asSeenBy(to, client, chain.owner);
  }
  get remoteAddress(): string {
    const { edge, trustedHops } = this.#chain ?? this.#of.chain;
    return trustedAddress(this.request, this.#of.client.remoteAddress, edge, trustedHops);
  }
  setRequestHeader(name: string, value: string): void {
    this.request.override(name, value);
    setHeader(this.#of.requestEdits, name, value);
  }
  removeRequestHeader(name: string): void {
    this.request.override(name, undefined);
    removeHeader(this.#of.requestEdits, name);
  }
  applyRequestRules(rules: HeaderRules): void {
    const { head } = this.request;
    const { requestEdits } = this.#of;
    addRules(requestEdits, rules, head, this);
    for (const name of rules.remove) this.request.override(name, undefined);
    for (const { name } of rules.add) this.request.override(name, fieldAfter(head, requestEdits, name));
  }
  metadata(namespace: string): unknown {
    return this.request.metadata?.get(namespace);
  }
  setMetadata(namespace: string, value: unknown): void {
    this.request.metadata ??= new Map();
    this.request.metadata.set(namespace, value);
  }
  filterState(key: string): unknown {
    return this.#state?.get(key);
  }
  setFilterState(key: string, value: unknown): void {
    this.#state ??= new Map();
    this.#state.set(key, value);
  }
  get states(): ReadonlyMap<string, unknown> | undefined {
    return this.#state;
  }
  whenOver(callback: () => void): void {
    this.#endings ??= [];
    this.#endings.push(callback);
  }
  addResponseHeader(line: string): void {
    this.#of.addResponseHeader(line);
  }
  addFlag(flag: string): void {
    this.#of.addFlag(flag);
  }
  streamInfo(): StreamInfo {
    return this.#of.streamInfo();
  }
}
