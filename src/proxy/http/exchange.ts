// One request from its head to its answer's end: match, filters, the route's action, the answer, telemetry. Tries are in forwarding.ts.

import type { Cancel } from "../../kernel/clock.ts";
import type { Framing } from "../../wire/http1_body.ts";
import { type Head, keepHead, known } from "../../wire/http1_head.ts";
import { clearEdits, type HeaderEdits, newEdits, removeHeader } from "../../wire/http1_write.ts";
import type { ConnectionInfo, HttpChain, Runtime } from "../chain.ts";
import type { ClusterSlot } from "../clusters/cluster.ts";
import type { BodySink } from "../filter.ts";
import type { StreamInfo } from "../log/stream_info.ts";
import { lacksTls, redirectToHttps } from "../routing/require_tls.ts";
import {
  type ForwardAction,
  findRoute,
  findVirtualHost,
  pickTarget,
  type Route,
  type WeightedTarget,
} from "../routing/route.ts";
import { overriddenAction, overrideFields } from "../routing/route_overrides.ts";
import type { Downstream } from "./downstream.ts";
import { type FilteredRequest, FilterRun } from "./filter_run.ts";
import { Forwarding } from "./forwarding.ts";
import type { ForwardingOwner } from "./forwarding_owner.ts";
import { grpcReply } from "./grpc.ts";
import { answerFields } from "./header_policy.ts";
import { addHeader, addRules, prepareForward, prepareRequest, prepareResponse } from "./headers.ts";
import type { LocalAnswer, LocalReply } from "./local_reply.ts";
import { type Mirror, startMirrors } from "./mirror.ts";
import { type RecordedRequest, RequestRecord } from "./record.ts";
import { RequestView } from "./request.ts";
import type { UpstreamConnection } from "./upstream.ts";

export class Exchange implements FilteredRequest, ForwardingOwner, BodySink, RecordedRequest {
  readonly #runtime: Runtime;
  readonly #down: Downstream;
  readonly forwarding: Forwarding;
  readonly #record: RequestRecord;
  readonly request = new RequestView();
  readonly client: ConnectionInfo;
  chain!: HttpChain;
  active = false;
  isHead = false;
  isUpgrade = false;
  /** Without a byte in either direction for this long, the exchange ends. */
  idleMs = 0;
  /** Sweeper time of the last byte in either direction. */
  lastActiveMs = 0;
  readonly requestEdits: HeaderEdits = newEdits();
  readonly responseEdits: HeaderEdits = newEdits();
  #head: Head | undefined;
  #hasBody = false;
  requestComplete = false;
  #route: Route | undefined;
  #target: WeightedTarget | undefined;
  #responseStarted = false;
  readonly #filters: FilterRun;
  #mirrors: Mirror[] | undefined;
  #durationTimer: Cancel | undefined;
  /** Of the answer. */
  #trailers: Buffer | undefined;

  constructor(runtime: Runtime, down: Downstream) {
    this.#runtime = runtime;
    this.#down = down;
    this.client = down.connection;
    this.forwarding = new Forwarding(runtime, this);
    this.#filters = new FilterRun(runtime, this);
    this.#record = new RequestRecord(runtime, this);
  }

  get wantsPayload(): boolean {
    return !this.#down.understandsChunked || this.#filters.transform !== undefined;
  }

  /**
   * A request head of `headBytes` has been read. The codec hands over what it has of the body (onRequestData, onRequestEnd),
   * then calls `start`; the rest of the body follows as it comes.
   */
  begin(head: Head, chain: HttpChain, headBytes: number, hasBody: boolean): void {
    this.chain = chain;
    this.active = true;
    chain.counts.requests++;
    this.#record.begin(chain, headBytes, hasBody);
    this.lastActiveMs = this.#runtime.sweeper.nowMs;
    this.requestComplete = !hasBody;
    this.#route = undefined;
    this.#target = undefined;
    this.#responseStarted = false;
    this.#trailers = undefined;
    this.#filters.reset();
    this.request.reset(this.client);
    this.forwarding.reset();
    clearEdits(this.requestEdits);
    clearEdits(this.responseEdits);
    this.isHead = false;
    this.idleMs = chain.streamIdleMs;
    this.#head = head;
    this.#hasBody = hasBody;
  }

  start(): void {
    const { request } = this;
    const { chain } = this;
    if (!request.read(this.#head!, this.client.secure ? "https" : "http", chain.escapedSlashes)) {
      this.#down.closeAfterAnswer();
      this.reply(400, "", "DPE", "", "path_normalization_failed");
      return;
    }
    if (request.redirects) {
      this.reply(307, "", "-", `location: ${request.path}\r\n`, "path_normalization_failed");
      return;
    }
    if (chain.hostRules !== undefined) request.stripHost(chain.hostRules, this.client.localPort);
    this.isHead = request.method === "HEAD";
    this.#match();
  }

  #match(): void {
    const { request, chain } = this;
    const { head } = request;
    prepareRequest(this.requestEdits, request, chain, this.client);
    this.clearRouteCache();
    if (chain.tracing !== undefined) this.#record.trace(chain.tracing, this.#route);
    this.#limitTime();
    this.isUpgrade = false;
    if (request.isConnect || (head.upgrade && !this.#hasBody)) {
      const protocol = request.isConnect ? "connect" : head.value(head.upgradeIndex).toLowerCase();
      this.isUpgrade = this.#forwardAction?.upgrades?.get(protocol) ?? chain.upgrades.has(protocol);
      // Should it be refused, what follows may be meant for the other protocol: it is never read as a request.
      if (this.isUpgrade || protocol !== "h2c") this.#down.closeAfterAnswer();
      // Offering h2c may be ignored (RFC 9110 §7.8); any other protocol the client will insist on.
      if (!this.isUpgrade && protocol !== "h2c") {
        this.reply(403, "", "-", "", "upgrade_failed");
        return;
      }
    }
    this.runFilters(chain, 0);
  }

  get #forwardAction(): ForwardAction | undefined {
    const action = this.#route?.action;
    return action?.kind === "forward" ? action : undefined;
  }
  /** As Envoy: the route as it was first matched decides. */
  #limitTime(): void {
    const action = this.#forwardAction;
    this.idleMs = action?.idleTimeoutMs ?? this.chain.streamIdleMs;
    const maxMs = action?.maxStreamDurationMs ?? this.chain.maxStreamDurationMs;
    if (maxMs > 0)
      this.#durationTimer = this.#runtime.clock.after(maxMs, () => {
        const status = this.requestComplete ? 504 : 408;
        this.reply(status, "downstream duration timeout", "DT", "", "max_duration_timeout");
        this.#down.flush();
      });
  }

  // ---- filters: a filter continues, answers, or stops until resume() ----

  get entersNeighbours(): boolean {
    return !this.chain.inbound;
  }
  runFilters(chain: HttpChain, from: number): void {
    if (chain !== this.chain && chain.tracing !== undefined)
      this.#record.traceNear(chain.tracing, this.forwarding.neighbourRoute);
    this.#filters.run(chain, from);
  }
  onFiltered(chain: HttpChain): void {
    if (chain === this.chain) this.#decide();
    else this.forwarding.open();
  }
  clearRouteCache(): void {
    const { request, chain } = this;
    const table = chain.routes.current;
    const host = table && findVirtualHost(table, request.host);
    const toHttps = host?.requireTls && lacksTls(host.requireTls, request, this.client, this.chain.edge);
    this.#route = toHttps ? redirectToHttps : host && findRoute(host, request);
  }
  addResponseHeader(line: string): void {
    this.responseEdits.added += line;
  }
  addFlag(flag: string): void {
    this.#record.addFlag(flag);
  }

  #decide(): void {
    const route = this.#route;
    if (route === undefined) {
      this.reply(404, "", "NR", "", "route_not_found");
      return;
    }
    const { action } = route;
    if (action.kind === "direct") {
      this.#addResponseRules(route);
      this.reply(action.status, action.body, "-", "", "direct_response");
      return;
    }
    if (action.kind === "redirect") {
      this.#addResponseRules(route);
      this.reply(action.status, "", "-", `location: ${action.location(this.request)}\r\n`, "direct_response");
      return;
    }
    const target = pickTarget(action, this.request, this.#runtime.random);
    this.#target = target;
    const cluster = target?.slot.current;
    if (target === undefined || cluster === undefined) {
      this.reply(action.clusterNotFoundStatus, "", "NC", "", "cluster_not_found");
      return;
    }
    prepareForward(this.requestEdits, this.request, this.chain, action, target, this);
    const { head } = this.request;
    if (head.expectContinue && !this.requestComplete && !this.chain.proxiesContinue) this.#down.sendContinue();
    if (action.mirrors.length > 0 && !this.isUpgrade) this.#mirrors = startMirrors(action.mirrors, this, this.#runtime);
    const asked = this.request.has(known.envoy) ? this.#takeOverrides(action) : action;
    this.forwarding.start(asked, target.slot, cluster, target.criteria);
  }

  #takeOverrides(action: ForwardAction): ForwardAction {
    const asked = overriddenAction(action, this.request);
    for (const name of overrideFields)
      if (this.request.header(name) !== undefined) removeHeader(this.requestEdits, name);
    return asked;
  }

  // ---- the request's body ----

  /** True: nobody needs these bytes any more. */
  onRequestData(chunk: Buffer, from: number, to: number): boolean {
    this.#record.bodyBytes += to - from;
    if (this.request.isBare) this.#record.seeRequest(chunk, from, to);
    this.lastActiveMs = this.#runtime.sweeper.nowMs;
    const mirrors = this.#mirrors;
    if (mirrors !== undefined) for (const mirror of mirrors) mirror.onRequestData(chunk, from, to);
    return this.active && this.forwarding.onRequestData(chunk, from, to);
  }
  /** The body's last byte has been given, or is with the next `onRequestData`. `trailers`: of a bare request. */
  onRequestEnd(trailers?: Buffer): void {
    this.requestComplete = true;
    if (this.#mirrors !== undefined) for (const mirror of this.#mirrors) mirror.onRequestEnd(trailers);
    this.#record.requestEnded();
    if (this.active && this.request.isBare) this.forwarding.onRequestEnd(trailers);
  }
  pauseRequest(): void {
    if (!this.requestComplete) this.#down.pauseRequest();
  }
  resumeRequest(): void {
    this.#down.resumeRequest();
  }

  // ---- the answer ----

  /** Answers instead of the upstream; with an answer already begun, breaks it off. */
  reply(status: number, body: string, flags: string, headers = "", details = ""): void {
    if (!this.active) return;
    this.#record.flags = flags;
    this.#record.details = details;
    if (this.#responseStarted) {
      this.#finish();
      this.#down.reset();
      return;
    }
    this.#record.status = status;
    this.#filters.respond(this.#record.status, undefined, "local");
    const { policy, localReply } = this.chain;
    if (policy.addsToAnswers) answerFields(this.responseEdits, this.request, this.requestEdits, policy, undefined);
    const changed = localReply && this.#changeReply(localReply, body);
    let lines = headers + this.responseEdits.added;
    let text = changed?.body ?? body;
    if (this.request.isGrpc) {
      lines += grpcReply(this.#record.status, text, headers);
      this.#record.status = 200;
      text = "";
    }
    this.#record.answeredLocally(lines);
    this.#record.responseBodyBytes = text.length;
    this.#down.sendLocal(this.#record.status, text, lines, this.chain, changed?.contentType);
    this.#finish();
    this.#down.end(this.requestComplete);
  }

  #changeReply(localReply: LocalReply, body: string): LocalAnswer {
    const info = this.streamInfo();
    info.localReplyBody = body;
    const answer = localReply(info);
    this.#record.status = answer.status;
    for (const addition of answer.add) addHeader(this.responseEdits, addition, undefined, this);
    return answer;
  }

  onHead(head: Head, framing: Framing): void {
    this.#responseStarted = true;
    this.#record.status = head.status;
    this.lastActiveMs = this.#runtime.sweeper.nowMs;
    this.#prepareResponse(head);
    this.#filters.respond(this.#record.status, head, framing);
    // A transformed body has no length known beforehand.
    const sent = this.#filters.transform ? "close" : framing;
    this.#record.answered(head, this.responseEdits);
    this.#down.sendHead(head, this.responseEdits, sent, this.chain);
  }
  #prepareResponse(head: Head): void {
    const { chain, request, requestEdits, responseEdits } = this;
    prepareResponse(responseEdits, head, chain, request, requestEdits, this.forwarding.serviceMs);
    this.#record.responseHead = head;
    for (const rules of this.#target!.responseHeaders) addRules(this.responseEdits, rules, head, this);
  }
  /** For an answer made here: there is no head yet whose fields could be removed. */
  #addResponseRules(route: Route): void {
    for (const rules of route.responseHeaders) addRules(this.responseEdits, rules, undefined, this);
  }
  onBody(chunk: Buffer, from: number, to: number): boolean {
    this.lastActiveMs = this.#runtime.sweeper.nowMs;
    const transform = this.#filters.transform;
    if (transform === undefined) this.#record.responseBodyBytes += to - from;
    if (transform !== undefined) return transform.write(chunk, from, to);
    if (this.request.isGrpc && this.request.isHttp2) this.#record.seeResponse(chunk, from, to);
    return this.#down.sendBody(chunk, from, to, this.forwarding.sharesReads ? "kept" : "read");
  }
  onTrailers(section: Buffer): void {
    this.#trailers = section;
    this.#record.trailers(section);
  }
  onEnd(): void {
    const transform = this.#filters.transform;
    if (transform === undefined) this.end();
    else transform.end();
  }
  push(chunk: Buffer): boolean {
    if (!this.active) return false;
    this.#record.responseBodyBytes += chunk.length;
    const room = this.#down.sendBody(chunk, 0, chunk.length, "kept");
    this.#down.flush();
    return room;
  }
  onRoom(): void {
    if (this.active) this.forwarding.resumeResponse();
  }
  /** The answer's last byte has been given, as it came or by the transform. */
  end(): void {
    if (!this.active) return;
    this.#down.finishBody(this.#trailers);
    this.#finish();
    this.#down.end(this.requestComplete);
  }
  flush(): void {
    this.#down.flush();
  }
  onDownstreamDrain(): void {
    if (!this.active) return;
    const transform = this.#filters.transform;
    if (transform === undefined) this.forwarding.resumeResponse();
    else transform.onDrain();
  }
  onInterim(head: Head): void {
    this.#down.sendInterim(head);
  }
  /** `head` is missing when CONNECT ends here. The request goes on until the tunnel is closed. */
  onUpgraded(head: Head | undefined, upstream: UpstreamConnection, rest: Buffer | undefined): void {
    this.#responseStarted = true;
    this.requestComplete = true;
    // The log is written when the tunnel ends.
    keepHead(this.request.head);
    this.#record.status = head?.status ?? 200;
    if (head !== undefined) this.#prepareResponse(head);
    this.#filters.respond(this.#record.status, head, "none");
    if (head !== undefined) this.#record.answered(head, this.responseEdits);
    this.#down.upgrade(head, this.responseEdits, upstream, rest);
  }
  onTunnelBytes(fromClient: boolean, count: number): void {
    if (fromClient) this.#record.bodyBytes += count;
    else this.#record.responseBodyBytes += count;
  }
  onTunnelClosed(flags: string): void {
    if (!this.active) return;
    this.#record.flags = flags;
    this.#finish();
  }

  /** The client has left, or was too slow. */
  abort(flags: string, details = "downstream_remote_disconnect"): void {
    if (!this.active) return;
    this.#record.flags = flags;
    this.#record.details = details;
    this.forwarding.abort();
    this.#finish();
  }

  // ---- the end ----

  #finish(): void {
    this.active = false;
    this.#durationTimer?.();
    this.#durationTimer = undefined;
    this.#filters.finish();
    if (this.#mirrors !== undefined) for (const mirror of this.#mirrors) mirror.onRequestOver();
    this.#mirrors = undefined;
    this.forwarding.finish();
    this.#record.report();
  }

  // ---- what the record is about ----

  get matchedRoute(): Route | undefined {
    return this.#route;
  }
  get cluster(): ClusterSlot | undefined {
    return this.#target?.slot;
  }
  get filterStates(): ReadonlyMap<string, unknown> | undefined {
    return this.#filters.states;
  }
  get responseBytes(): number {
    return this.#down.responseBytes;
  }
  streamInfo(): StreamInfo {
    return this.#record.streamInfo();
  }
}
