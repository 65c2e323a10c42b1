// Mirroring (request_mirror_policies): sends a copy of a request to another cluster and drops the answer. The request itself never waits for it.

import { Head, scanRequestHead } from "../../wire/http1_head.ts";
import type { HeaderEdits } from "../../wire/http1_write.ts";
import type { ConnectionInfo, HttpChain, Runtime } from "../chain.ts";
import type { ClusterSlot } from "../clusters/cluster.ts";
import type { Cluster } from "../clusters/config.ts";
import { draws } from "../compile/fraction.ts";
import type { ForwardAction } from "../routing/route.ts";
import { Forwarding } from "./forwarding.ts";
import type { ForwardingOwner } from "./forwarding_owner.ts";
import { RequestView } from "./request.ts";
import type { UpstreamConnection } from "./upstream.ts";

export interface MirrorPolicy {
  /** The cluster by itself, or by a field of the request. */
  slot: (request: RequestView) => ClusterSlot | undefined;
  share: number;
  /** "-shadow" behind the host, so that the copy can be told from the request. */
  marksHost: boolean;
  /** The route's action without what concerns the client: no retries, no host of its own. */
  action: ForwardAction;
  /** Copies under way. */
  active: number;
}

/** Further requests are not mirrored while so many copies under one policy are under way. */
const copiesMax = 1_000;
/** Body bytes a mirror may be behind; a slower one is dropped. */
const behindBytesMax = 1024 * 1024;

/** The request that is copied, when it is about to be sent. */
export interface MirroredRequest {
  readonly request: RequestView;
  readonly requestEdits: HeaderEdits;
  readonly client: ConnectionInfo;
  readonly chain: HttpChain;
  readonly isHead: boolean;
  readonly requestComplete: boolean;
  /** Body bytes that came before this. */
  readonly forwarding: { readonly held: readonly Buffer[] };
}

/** Undefined when no policy takes the request. */
export function startMirrors(
  policies: readonly MirrorPolicy[],
  of: MirroredRequest,
  runtime: Runtime,
): Mirror[] | undefined {
  let mirrors: Mirror[] | undefined;
  for (const policy of policies) {
    if (policy.active >= copiesMax || !draws(policy.share, runtime.random)) continue;
    const slot = policy.slot(of.request);
    const cluster = slot?.current;
    if (!slot || !cluster) continue;
    const mirror = new Mirror(policy, of, runtime);
    mirror.start(slot, cluster);
    mirrors ??= [];
    mirrors.push(mirror);
  }
  return mirrors;
}

/** "-shadow" goes before the port, as Envoy puts it. */
export const shadowHost = (authority: string): string => authority.replace(/(:\d+)?$/, "-shadow$1");

/** started → over. The answer's bytes are read and forgotten. */
export class Mirror implements ForwardingOwner {
  readonly request = new RequestView();
  readonly requestEdits: HeaderEdits;
  readonly client: ConnectionInfo;
  readonly chain: HttpChain;
  readonly isHead: boolean;
  readonly isUpgrade = false;
  readonly wantsPayload = false;
  readonly entersNeighbours = false;
  requestComplete: boolean;
  readonly #policy: MirrorPolicy;
  readonly #forwarding: Forwarding;
  readonly #held: readonly Buffer[];
  #over = false;
  #paused = false;
  #behindBytes = 0;

  constructor(policy: MirrorPolicy, of: MirroredRequest, runtime: Runtime) {
    const { request, requestEdits } = of;
    this.client = of.client;
    this.chain = of.chain;
    this.isHead = of.isHead;
    this.requestComplete = of.requestComplete;
    this.#policy = policy;
    policy.active++;
    this.#held = of.forwarding.held;
    this.#forwarding = new Forwarding(runtime, this);
    // The client's bytes are gone when its own request is done; the copy may take longer.
    const { head } = request;
    const bytes = copyOf(head.buffer, head.start, head.end);
    const copy = new Head();
    scanRequestHead(copy, bytes, 0, bytes.length);
    this.request.reset(of.client);
    this.request.take(request, copy);
    if (policy.marksHost) this.request.rewriteAuthority(shadowHost(request.authority));
    const { removed, added, dropIds } = requestEdits;
    this.requestEdits = { removed: removed && [...removed], added, dropIds: Uint8Array.from(dropIds) };
  }

  start(slot: ClusterSlot, cluster: Cluster): void {
    for (const chunk of this.#held) this.onRequestData(chunk, 0, chunk.length);
    if (!this.#over) this.#forwarding.start(this.#policy.action, slot, cluster, undefined);
  }

  // ---- the request's body, as it comes ----

  onRequestData(chunk: Buffer, from: number, to: number): void {
    if (this.#over) return;
    this.#forwarding.onRequestData(copyOf(chunk, from, to), 0, to - from);
    if (!this.#paused) return;
    this.#behindBytes += to - from;
    if (this.#behindBytes > behindBytesMax) this.#finish();
  }
  onRequestEnd(trailers: Buffer | undefined): void {
    this.requestComplete = true;
    if (this.request.isBare && !this.#over) this.#forwarding.onRequestEnd(trailers);
  }
  pauseRequest(): void {
    this.#paused = true;
  }
  resumeRequest(): void {
    this.#paused = false;
    this.#behindBytes = 0;
  }
  /** The request is over; what has not been received of it never will be. */
  onRequestOver(): void {
    if (!this.requestComplete) this.#finish();
  }

  // ---- the answer: nobody wants it ----

  addFlag(): void {}
  reply(): void {
    this.#finish();
  }
  onEnd(): void {
    this.#finish();
  }
  onBody(): boolean {
    return true;
  }
  onUpgraded(_head: Head | undefined, upstream: UpstreamConnection): void {
    upstream.abandon();
    this.#finish();
  }
  runFilters(): void {}
  addResponseHeader(): void {}
  onTrailers(): void {}
  onHead(): void {}
  onInterim(): void {}
  flush(): void {}

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    this.#policy.active--;
    this.#forwarding.finish();
  }
}

/** In memory of its own: what is written is let go as a whole. */
function copyOf(source: Buffer, from: number, to: number): Buffer {
  const copy = Buffer.allocUnsafeSlow(to - from);
  source.copy(copy, 0, from, to);
  return copy;
}
