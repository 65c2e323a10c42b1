// The upstream half of a request: picks an endpoint, sends, retries, relays the answer. Reused request after request.

import type { Cancel } from "../../kernel/clock.ts";
import type { Framing } from "../../wire/http1_body.ts";
import type { Head } from "../../wire/http1_head.ts";
import { pick, pickAgain } from "../balancing/balance.ts";
import { admitsRequest, admitsRetry, type RoutePriority, usageOf } from "../balancing/circuit_breaker.ts";
import type { Criteria } from "../balancing/subsets.ts";
import type { HttpChain, Runtime } from "../chain.ts";
import type { ClusterSlot, Endpoint, Usage, WorkloadIdentity } from "../clusters/cluster.ts";
import { type Cluster, speaksHttp2, type Thresholds } from "../clusters/config.ts";
import { endpointForHost } from "../clusters/host_endpoint.ts";
import { originalDestination } from "../clusters/original_dst.ts";
import { Connector, type ConnectorUser } from "../connector.ts";
import { appliesTo, type Failure, retriesAnswer, retriesFailure, retriesStale, waitMs } from "../routing/retry.ts";
import { type ForwardAction, findRoute, findVirtualHost, pickTarget, type Route } from "../routing/route.ts";
import { statusClass } from "../telemetry/counts.ts";
import { setClientCert } from "../tls/client_cert.ts";
import type { ForwardingOwner } from "./forwarding_owner.ts";
import { podFailure, proxyStatus } from "./peer_failure.ts";
import { failureFlag, resetDetails, resetReason, upstreamErrorBody } from "./reply.ts";
import type { Upstream, UpstreamLoss, UpstreamUser } from "./upstream_contract.ts";

/** Body bytes kept for a retry; with more, the request is not tried again. */
const replayBytesMax = 64 * 1024;
/** Kept connections that turned out stale, in one request, before only fresh ones are used. */
const staleTriesMax = 2;

export class Forwarding implements UpstreamUser, ConnectorUser {
  readonly #runtime: Runtime;
  readonly #owner: ForwardingOwner;
  #action: ForwardAction | undefined;
  #slot: ClusterSlot | undefined;
  #cluster: Cluster | undefined;
  /** The slot's counts and the cluster's limits for the route's priority. */
  #usage!: Usage;
  #thresholds!: Thresholds;
  #hash: bigint | undefined;
  #criteria: Criteria | undefined;
  /** What the load balancer picked. */
  endpoint: Endpoint | undefined;
  /** The chain of the workload in this process that the endpoint is, if it is one. */
  neighbour: HttpChain | undefined;
  neighbourRoute: Route | undefined;
  /** The address the neighbour is reached at. */
  get destination(): Endpoint | undefined {
    return this.#toEndpoint;
  }
  #counted = false;
  /** Where the bytes go: `endpoint`, or the neighbour's own inbound endpoint. */
  #toEndpoint: Endpoint | undefined;
  toSlot: ClusterSlot | undefined;
  #upstream: Upstream | undefined;
  /** Of a bare request, once its body has ended. */
  #trailers: Buffer | undefined;
  /** The answer's reads hold other answers as well: nobody lets their memory go. */
  get sharesReads(): boolean {
    return this.#upstream?.http1 === undefined;
  }
  readonly #connector: Connector;
  #sent = false;
  #tries = 0;
  #staleTries = 0;
  #retrying = false;
  #failed: Endpoint[] | undefined;
  #kept: Buffer[] | undefined;
  #keptBytes = 0;
  #replayable = true;
  #answerBegun = false;
  #interimSent = false;
  #sentAtMs = 0;
  serviceMs: number | undefined;
  /** Our end of the connection last used; kept only when a log names it. */
  localAddress = "";
  /** Why the last try that failed did, or "". */
  failure = "";
  get tries(): number {
    return this.#tries;
  }
  #routeTimer: Cancel | undefined;
  #tryTimer: Cancel | undefined;
  #backoffTimer: Cancel | undefined;

  constructor(runtime: Runtime, owner: ForwardingOwner) {
    this.#runtime = runtime;
    this.#owner = owner;
    this.#connector = new Connector(runtime, this);
  }

  /** Before each request. */
  reset(): void {
    this.#action = undefined;
    this.#slot = undefined;
    this.#cluster = undefined;
    this.endpoint = undefined;
    this.neighbour = undefined;
    this.#toEndpoint = undefined;
    this.toSlot = undefined;
    this.#sent = false;
    this.#tries = 0;
    this.#staleTries = 0;
    this.#failed = undefined;
    this.#kept = undefined;
    this.#keptBytes = 0;
    this.#replayable = true;
    this.#answerBegun = false;
    this.#interimSent = false;
    this.serviceMs = undefined;
    this.localAddress = "";
    this.failure = "";
  }

  /** Body bytes that wait for a connection, or for a retry. */
  get held(): readonly Buffer[] {
    return this.#kept ?? [];
  }
  get isHead(): boolean {
    return this.#owner.isHead;
  }
  get isConnect(): boolean {
    return this.#owner.request.isConnect;
  }
  get keepsTrailers(): boolean {
    return this.#owner.chain.trailers || this.#owner.request.isHttp2;
  }
  get wantsPayload(): boolean {
    return this.#owner.wantsPayload;
  }

  start(action: ForwardAction, slot: ClusterSlot, cluster: Cluster, criteria?: Criteria): void {
    this.#action = action;
    this.#criteria = criteria;
    this.#slot = slot;
    this.#cluster = cluster;
    this.#usage = usageOf(slot, action.priority);
    this.#thresholds = action.priority === "high" ? cluster.highThresholds : cluster.thresholds;
    this.#hash = action.hash?.(this.#owner, this.#runtime.random);
    if (action.timeoutMs > 0)
      this.#routeTimer = this.#runtime.clock.after(action.timeoutMs, () => {
        this.#routeTimer = undefined;
        slot.counts.timeouts++;
        if (!this.#answerBegun) this.endpoint?.outlier?.local("timeout");
        this.#dropTry();
        this.#owner.reply(504, "upstream request timeout", "UT", "", "upstream_response_timeout");
      });
    this.#try();
  }

  // ---- a try: pick → (neighbour's filters) → open → send ----

  #try(): void {
    const slot = this.#slot!;
    const cluster = this.#cluster!;
    const owner = this.#owner;
    this.#tries++;
    this.#sent = false;
    if (!admitsRequest(this.#thresholds, this.#usage)) {
      this.onOverflow();
      return;
    }
    const endpoint =
      cluster.balancing.policy === "ORIGINAL_DST"
        ? originalDestination(slot, owner.client, this.#runtime)
        : pickAgain(slot, this.#runtime.random, this.#failed, this.#action!.retry, this.#hash, this.#criteria);
    if (endpoint === undefined) {
      owner.reply(503, "no healthy upstream", "UH", "", "no_healthy_upstream");
      return;
    }
    this.endpoint = endpoint;
    this.#toEndpoint = endpoint;
    this.toSlot = slot;
    this.neighbour = undefined;
    endpoint.active++;
    endpoint.requests++;
    this.#usage.requestsActive++;
    slot.counts.requests++;
    this.#counted = true;
    if (this.#action!.autoHostRewrite) owner.request.rewriteAuthority(endpoint.placement.hostname || endpoint.address);
    if (owner.entersNeighbours) {
      const chain = this.#runtime.inbound.tunnelEnd(endpoint, owner.chain.owner)?.slot.current;
      if (chain?.kind === "http") {
        this.#enterNeighbour(chain);
        return;
      }
    }
    if (endpoint.transport.tls?.forHost) this.#toEndpoint = endpointForHost(endpoint, owner.request.authority);
    this.open();
  }

  /** The endpoint is a workload of this very process: its own policies and cluster, and no tunnel. */
  #enterNeighbour(chain: HttpChain): void {
    const { request, requestEdits } = this.#owner;
    if (!request.readAsSent(requestEdits)) {
      this.#owner.reply(400, "", "DPE", "", "path_normalization_failed");
      return;
    }
    const table = chain.routes.current;
    const host = table && findVirtualHost(table, request.host);
    const route = host && findRoute(host, request);
    const action = route?.action;
    const target = action?.kind === "forward" ? pickTarget(action, request, this.#runtime.random) : undefined;
    const endpoint = target && pick(target.slot, this.#runtime.random, undefined);
    this.neighbour = chain;
    this.neighbourRoute = route;
    if (endpoint === undefined) {
      this.#owner.reply(503, "no healthy upstream", "UH", "", "no_healthy_upstream");
      return;
    }
    this.#toEndpoint = endpoint;
    this.toSlot = target!.slot;
    setClientCert(this.#owner.requestEdits, chain.clientCert, chain.owner.identity, this.#owner.chain.owner.identity);
    this.#owner.runFilters(chain, 0);
  }

  /** A kept connection, else a new one. */
  open(): void {
    const owner = this.#owner;
    const endpoint = this.#toEndpoint!;
    const perTryMs = this.#action!.retry?.perTryTimeoutMs ?? 0;
    if (perTryMs > 0)
      this.#tryTimer = this.#runtime.clock.after(perTryMs, () => this.#lost("per-try-timeout", resetReason.timeout));
    const slot = this.toSlot!;
    const cluster = slot.current ?? this.#cluster!;
    const isHttp2 = !owner.isUpgrade && speaksHttp2(cluster.http2, owner.request.isHttp2);
    if (isHttp2) this.#connector.connectHttp2(endpoint, slot, cluster);
    else this.#connector.connect(endpoint, slot, cluster, this.#staleTries >= staleTriesMax || this.#endsConnect);
  }
  get entered(): boolean {
    return this.#owner.chain.inbound || this.neighbour !== undefined;
  }
  get caller(): WorkloadIdentity {
    return this.#owner.chain.owner.identity;
  }
  get priority(): RoutePriority {
    return this.#action!.priority;
  }
  get #endsConnect(): boolean {
    return this.isConnect && this.#action!.terminatesConnect;
  }

  onConnected(upstream: Upstream): void {
    this.endpoint!.outlier?.local("connected");
    if (this.#endsConnect) this.#tunnel(undefined, upstream, undefined);
    else this.#send(upstream);
  }
  onConnectFailed(timedOut: boolean, reason: string): void {
    this.failure = reason;
    this.#lost("connect-failure", timedOut ? resetReason.timeout : resetReason.connectFailure);
    this.#owner.flush();
  }
  onOverflow(): void {
    this.#slot!.counts.overflows++;
    const body = upstreamErrorBody(resetReason.overflow, this.#tries > 1);
    this.#owner.reply(503, body, "UO", "x-envoy-overloaded: true\r\n", resetDetails("before", resetReason.overflow));
  }
  onConnectLater(): void {
    this.#owner.flush();
  }
  #send(upstream: Upstream): void {
    const owner = this.#owner;
    this.#upstream = upstream;
    upstream.use(this);
    if (owner.chain.accessLog?.needs.upstreamLocalAddress) this.localAddress = upstream.localAddress;
    const replays = this.#keepsForReplay();
    this.#sent = true;
    this.#sentAtMs = this.#runtime.clock.monotonicMs();
    const { isBare } = owner.request;
    const room = upstream.send(owner, this.#kept, replays || isBare);
    if (!replays) this.#kept = undefined;
    if (owner.requestComplete && isBare) upstream.end(this.#trailers);
    else if (!owner.requestComplete && room) owner.resumeRequest();
  }

  // ---- the request's body ----

  /** True: all of it has been written, and nothing is kept. */
  onRequestData(chunk: Buffer, from: number, to: number): boolean {
    const upstream = this.#upstream;
    if (upstream !== undefined) {
      const shared = this.#replayable || this.#owner.request.isBare;
      const written = upstream.write(chunk, from, to, shared ? "kept" : "read");
      if (!written) this.#owner.pauseRequest();
      if (!this.#replayable) return written;
    } else this.#owner.pauseRequest();
    this.#kept ??= [];
    this.#kept.push(chunk.subarray(from, to));
    this.#keptBytes += to - from;
    if (upstream !== undefined && !this.#keepsForReplay()) this.#kept = undefined;
    return false;
  }
  /** Of a bare request: the body is complete. */
  onRequestEnd(trailers: Buffer | undefined): void {
    this.#trailers = trailers;
    this.#upstream?.end(trailers);
  }
  #keepsForReplay(): boolean {
    if (this.#replayable && (this.#action?.retry === undefined || this.#keptBytes > replayBytesMax))
      this.#replayable = false;
    return this.#replayable;
  }
  onUpstreamDrain(): void {
    if (!this.#owner.requestComplete) this.#owner.resumeRequest();
  }

  // ---- the answer ----

  onResponseHead(head: Head, framing: Framing): boolean {
    this.serviceMs = this.#runtime.clock.monotonicMs() - this.#sentAtMs;
    this.#slot!.counts.answers[statusClass(head.status)]!++;
    const failure = this.#toEndpoint!.transport.connectTarget && podFailure(head);
    if (failure) {
      this.#upstream?.abandon();
      this.#upstream = undefined;
      this.#sent = failure === "reset";
      this.#lost(failure, failure === "reset" ? resetReason.termination : resetReason.connectFailure);
      return false;
    }
    this.endpoint!.outlier?.status(head.status);
    const retry = this.#action!.retry;
    if (retry !== undefined && retriesAnswer(retry, head, this.#owner.request.method) && this.#mayRetry()) {
      this.#again(head);
      return false;
    }
    this.#tryTimer?.();
    this.#tryTimer = undefined;
    this.#answerBegun = true;
    this.#kept = undefined;
    this.#replayable = false;
    this.#owner.onHead(head, framing);
    return true;
  }
  onResponseBody(chunk: Buffer, from: number, to: number): boolean {
    if (this.#owner.onBody(chunk, from, to)) return true;
    this.#upstream?.pause();
    return false;
  }
  onResponseTrailers(section: Buffer): void {
    this.#owner.onTrailers(section);
  }
  onResponseFlush(): void {
    this.#owner.flush();
  }
  resumeResponse(): void {
    this.#upstream?.resume();
  }
  onResponseEnd(): void {
    const upstream = this.#upstream!;
    this.#upstream = undefined;
    // An answer before the request's end: the rest of the request is not wanted, so the connection is of no more use.
    if (this.#owner.requestComplete) upstream.release();
    else upstream.close();
    this.#owner.onEnd();
  }
  onUpgraded(head: Head, rest: Buffer | undefined): void {
    const upstream = this.#upstream!;
    if (!this.#owner.isUpgrade) {
      upstream.abandon();
      this.onUpstreamLost("protocol");
      return;
    }
    this.serviceMs = this.#runtime.clock.monotonicMs() - this.#sentAtMs;
    this.#tunnel(head, upstream, rest);
  }
  /** No try and no route timeout any more: the tunnel ends by itself, by its idle timeout or its greatest duration. */
  #tunnel(head: Head | undefined, upstream: Upstream, rest: Buffer | undefined): void {
    this.#upstream = undefined;
    this.#tryTimer?.();
    this.#tryTimer = undefined;
    this.#routeTimer?.();
    this.#routeTimer = undefined;
    this.#kept = undefined;
    this.#owner.onUpgraded(head, upstream.http1!, rest);
  }
  /** As Envoy: the first one only, and no retry after it. */
  onInterim(head: Head): void {
    if (!this.#owner.chain.proxiesContinue || this.#interimSent) return;
    this.#interimSent = true;
    this.#kept = undefined;
    this.#replayable = false;
    this.#owner.onInterim(head);
  }
  onUpstreamLost(how: UpstreamLoss): void {
    this.#upstream = undefined;
    if (how === "protocol" || how === "midway") {
      this.endpoint!.outlier?.local("connect-failed");
      this.#dropTry();
      const body = upstreamErrorBody(resetReason.protocol, this.#tries > 1);
      const details = resetDetails(this.#answerBegun ? "after" : "before", resetReason.protocol);
      this.#owner.reply(502, body, how === "protocol" ? "UPE" : "UC", "", details);
      this.#owner.flush();
      return;
    }
    if (how === "refused") this.#lost("refused-stream", resetReason.refused);
    else if (how === "remote") this.#lost("remote-reset", resetReason.remote);
    else this.#lost(how, resetReason.termination);
    this.#owner.flush();
  }

  // ---- retries ----

  #lost(failure: Failure, reason: string): void {
    const owner = this.#owner;
    if (this.endpoint) this.endpoint.failures++;
    if (failure !== "stale")
      this.endpoint?.outlier?.local(failure === "per-try-timeout" ? "timeout" : "connect-failed");
    if (failure === "per-try-timeout") this.#slot!.counts.timeouts++;
    if (this.#answerBegun) {
      this.#dropTry();
      owner.reply(0, "", "UC", "", resetDetails("after", reason));
      return;
    }
    const retry = this.#action!.retry;
    if (retriesStale(owner.request.method, failure) && (this.#replayable || this.#keptBytes === 0)) {
      this.#staleTries++;
      this.#tries--;
      this.#dropTry();
      this.#try();
      return;
    }
    if (retry && retriesFailure(retry, failure, this.#sent, owner.request.method) && this.#mayRetry()) {
      this.#again();
      return;
    }
    this.#dropTry();
    if (failure === "per-try-timeout") {
      owner.reply(504, "upstream request timeout", "UT", "", "upstream_per_try_timeout");
      return;
    }
    const headers = owner.chain.inbound ? proxyStatus(owner.chain.serverName, failure) : "";
    const body = upstreamErrorBody(reason, this.#tries > 1);
    owner.reply(503, body, failureFlag(failure), headers, resetDetails("before", reason));
  }

  #mayRetry(): boolean {
    const retry = this.#action!.retry!;
    if (!this.#replayable || !appliesTo(retry, this.#owner.request)) return false;
    const isSpent = this.#tries > retry.retriesMax;
    if (!isSpent) this.#endRetry();
    if (!isSpent && admitsRetry(this.#thresholds, this.#usage)) return true;
    this.#owner.addFlag(isSpent ? "URX" : "UO");
    return false;
  }

  /** Another try after what the answer asked for, else after the back-off; avoiding this host. */
  #again(answer?: Head): void {
    const retry = this.#action!.retry!;
    this.#failed ??= [];
    this.#failed.push(this.endpoint!);
    this.#dropTry();
    this.#usage.retriesActive++;
    this.#slot!.counts.retries++;
    this.#retrying = true;
    const { clock, random } = this.#runtime;
    const delayMs = waitMs(retry, this.#tries, answer, clock.now(), random);
    this.#backoffTimer = clock.after(delayMs, () => {
      this.#backoffTimer = undefined;
      this.#try();
      this.#owner.flush();
    });
  }
  /** A retry is under way from its back-off to its result. */
  #endRetry(): void {
    if (!this.#retrying) return;
    this.#retrying = false;
    this.#usage.retriesActive--;
  }

  /** Ends the current try without ending the request. */
  #dropTry(): void {
    this.#tryTimer?.();
    this.#tryTimer = undefined;
    this.#connector.abort();
    this.#upstream?.abandon();
    this.#upstream = undefined;
    this.#uncount();
  }
  #uncount(): void {
    if (!this.#counted) return;
    this.#counted = false;
    this.endpoint!.active--;
    this.#usage.requestsActive--;
  }

  /** The client has left. */
  abort(): void {
    this.#dropTry();
  }

  /** After the answer's end, however it came. */
  finish(): void {
    this.#routeTimer?.();
    this.#routeTimer = undefined;
    this.#backoffTimer?.();
    this.#backoffTimer = undefined;
    this.#endRetry();
    this.#dropTry();
    this.#kept = undefined;
  }
}
