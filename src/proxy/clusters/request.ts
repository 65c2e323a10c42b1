// A request of the proxy's own (key sets, traces) to an endpoint of one of its clusters, over that endpoint's transport.

import type { Cancel } from "../../kernel/clock.ts";
import { MeshbedError } from "../../kernel/errors.ts";
import type { Head } from "../../wire/http1_head.ts";
import { pick } from "../balancing/balance.ts";
import type { Runtime } from "../chain.ts";
import { Connector, type ConnectorUser } from "../connector.ts";
import type { UpstreamConnection } from "../http/upstream.ts";
import type { Upstream, UpstreamUser } from "../http/upstream_contract.ts";
import type { ClusterSlot, Endpoint, WorkloadIdentity } from "./cluster.ts";

export interface OwnRequest {
  method: string;
  /** Host field. */
  authority: string;
  path: string;
  /** Complete lines; content-length is added. */
  headers: string;
  body: Buffer | undefined;
  timeoutMs: number;
  /** A longer answer is an error. */
  bodyBytesMax: number;
  /** May go over a kept connection, as it is harmless to send it twice should that turn out closed. */
  reuses?: boolean;
}

export interface OwnAnswer {
  status: number;
  /** In order; names in lower case. */
  headers: readonly (readonly [name: string, value: string])[];
  body: Buffer;
}

/** One try, on a connection of its own making. Rejects with a MeshbedError that says what went wrong. */
export function requestCluster(
  slot: ClusterSlot,
  request: OwnRequest,
  caller: WorkloadIdentity,
  runtime: Runtime,
): Promise<OwnAnswer> {
  return new Promise((resolve, reject) => {
    new Try(slot, request, caller, runtime, resolve, reject).start();
  });
}

class Try implements UpstreamUser, ConnectorUser {
  readonly isHead = false;
  readonly isConnect = false;
  readonly keepsTrailers = false;
  readonly wantsPayload = true;
  readonly priority = "default";
  readonly entered = false;
  readonly caller: WorkloadIdentity;
  readonly #slot: ClusterSlot;
  readonly #request: OwnRequest;
  readonly #runtime: Runtime;
  readonly #resolve: (answer: OwnAnswer) => void;
  readonly #reject: (error: Error) => void;
  readonly #connector: Connector;
  #endpoint: Endpoint | undefined;
  #upstream: UpstreamConnection | undefined;
  #timer: Cancel | undefined;
  #fresh: boolean;
  #status = 0;
  #headers: [string, string][] = [];
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(
    slot: ClusterSlot,
    request: OwnRequest,
    caller: WorkloadIdentity,
    runtime: Runtime,
    resolve: (answer: OwnAnswer) => void,
    reject: (error: Error) => void,
  ) {
    this.#slot = slot;
    this.#request = request;
    this.#fresh = request.reuses !== true;
    this.caller = caller;
    this.#runtime = runtime;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#connector = new Connector(runtime, this);
  }

  start(): void {
    const slot = this.#slot;
    const { clock, random } = this.#runtime;
    const cluster = slot.current;
    const endpoint = cluster && pick(slot, random, undefined);
    if (!cluster || !endpoint) {
      this.#fail(cluster ? "it has no healthy endpoint" : "there is no such cluster");
      return;
    }
    this.#endpoint = endpoint;
    endpoint.active++;
    slot.requestsActive++;
    this.#timer = clock.after(this.#request.timeoutMs, () => this.#fail(`no answer in ${this.#request.timeoutMs} ms`));
    this.#connector.connect(endpoint, slot, cluster, this.#fresh);
  }

  onConnected({ http1 }: Upstream): void {
    // Asked for as such.
    const upstream = http1!;
    const { method, path, authority, headers, body } = this.#request;
    this.#upstream = upstream;
    upstream.use(this);
    const length = body ? `content-length: ${body.length}\r\n` : "";
    const head = Buffer.from(`${method} ${path} HTTP/1.1\r\nhost: ${authority}\r\n${headers}${length}\r\n`, "latin1");
    upstream.writer.write(head, 0, head.length, "kept");
    if (body) upstream.writer.write(body, 0, body.length, "kept");
  }
  onConnectFailed(timedOut: boolean): void {
    this.#fail(timedOut ? "connection timeout" : "connection failure");
  }
  onOverflow(): void {
    this.#fail("too many connections");
  }
  onConnectLater(): void {}

  onResponseHead(head: Head): boolean {
    this.#status = head.status;
    for (let i = 0; i < head.count; i++) this.#headers.push([head.name(i).toLowerCase(), head.value(i)]);
    return true;
  }
  onResponseBody(chunk: Buffer, from: number, to: number): boolean {
    this.#bytes += to - from;
    if (this.#bytes > this.#request.bodyBytesMax) this.#fail(`answer above ${this.#request.bodyBytesMax} bytes`);
    else this.#chunks.push(Buffer.from(chunk.subarray(from, to)));
    return true;
  }
  onResponseTrailers(): void {}
  onResponseEnd(): void {
    const upstream = this.#upstream;
    // Failed in the very read that ends the answer.
    if (upstream === undefined) return;
    this.#upstream = undefined;
    upstream.release();
    this.#over();
    this.#resolve({ status: this.#status, headers: this.#headers, body: Buffer.concat(this.#chunks) });
  }
  onResponseFlush(): void {}
  onInterim(): void {}
  onUpgraded(): void {
    this.#fail("protocol error");
  }
  onUpstreamLost(how: Parameters<UpstreamUser["onUpstreamLost"]>[0]): void {
    this.#upstream = undefined;
    const cluster = this.#slot.current;
    if (how === "stale" && !this.#fresh && cluster) {
      this.#fresh = true;
      this.#connector.connect(this.#endpoint!, this.#slot, cluster, true);
      return;
    }
    this.#fail("connection termination");
  }
  onUpstreamDrain(): void {}

  #fail(why: string): void {
    this.#connector.abort();
    this.#upstream?.abandon();
    this.#upstream = undefined;
    this.#over();
    const { authority, path } = this.#request;
    this.#reject(
      new MeshbedError("CLUSTER_REQUEST_FAILED", `cluster ${this.#slot.name}, http://${authority}${path}: ${why}`),
    );
  }
  #over(): void {
    this.#timer?.();
    this.#timer = undefined;
    if (this.#endpoint === undefined) return;
    this.#endpoint.active--;
    this.#endpoint = undefined;
    this.#slot.requestsActive--;
  }
}
