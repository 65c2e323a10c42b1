// Checks the endpoints of one cluster, each on its own schedule, through the endpoint's own transport. Every check opens a connection of its own.

import type { Cancel } from "../../kernel/clock.ts";
import { HeadAccumulator } from "../../wire/accumulate.ts";
import { Head, responseHeadBytesMax, scanResponseHead } from "../../wire/http1_head.ts";
import type { OwnedSocket, SocketOwner } from "../../wire/socket.ts";
import type { Runtime } from "../chain.ts";
import { Dial, type DialListener } from "../dial.ts";
import type { ClusterSlot, Endpoint, Transport } from "./cluster.ts";
import {
  type CheckResult,
  type HealthCheck,
  type HealthState,
  judge,
  judgeStatus,
  nextCheckMs,
  received,
} from "./health_check.ts";

/** Of an answer to a TCP check. */
const receivedBytesMax = 64 * 1024;

type CheckerRuntime = Pick<Runtime, "clock" | "random" | "log" | "podSource">;

export class HealthChecker {
  readonly #slot: ClusterSlot;
  readonly #check: HealthCheck;
  readonly #runtime: CheckerRuntime;
  readonly #onChecked: () => void;
  readonly #watches = new Map<Endpoint, Watch>();

  /** `onChecked`: every endpoint has been checked once. Endpoints that are there already keep their health until they are checked. */
  constructor(slot: ClusterSlot, check: HealthCheck, runtime: CheckerRuntime, onChecked: () => void) {
    this.#slot = slot;
    this.#check = check;
    this.#runtime = runtime;
    this.#onChecked = onChecked;
    for (const endpoint of slot.all) if (!endpoint.placement.healthCheck?.disabled) this.#watch(endpoint);
  }

  get isPending(): boolean {
    for (const { state } of this.#watches.values()) if (!state.checked) return true;
    return false;
  }

  /** Follows the cluster's endpoints. A new one is unhealthy until it has passed. */
  sync(): void {
    const all = new Set(this.#slot.all);
    for (const [endpoint, watch] of this.#watches)
      if (!all.has(endpoint)) {
        watch.stop();
        this.#watches.delete(endpoint);
      }
    for (const endpoint of all) {
      const isDisabled = endpoint.placement.healthCheck?.disabled === true;
      if (this.#watches.has(endpoint) === !isDisabled) continue;
      if (isDisabled) {
        this.#watches.get(endpoint)!.stop();
        this.#watches.delete(endpoint);
      }
      endpoint.failedActiveCheck = !isDisabled;
      if (!isDisabled) this.#watch(endpoint);
    }
  }

  #watch(endpoint: Endpoint): void {
    const watch: Watch = new Watch(endpoint, this.#slot, this.#check, this.#runtime, (before) => {
      const { healthy } = watch.state;
      if (before.healthy !== healthy) {
        endpoint.failedActiveCheck = !healthy;
        if (healthy) endpoint.healthySinceMs = this.#slot.nowMs();
        this.#slot.reselect();
        const facts = { cluster: this.#slot.name, endpoint: endpoint.address, healthy };
        this.#runtime.log.info("health check changed its mind", facts);
      }
      if (healthy) endpoint.outlier?.checkPassed();
      if (!before.checked && !this.isPending) this.#onChecked();
    });
    this.#watches.set(endpoint, watch);
  }

  stop(): void {
    for (const watch of this.#watches.values()) watch.stop();
    this.#watches.clear();
  }
}

/** One endpoint's schedule: waiting → probing → waiting …, until stopped. */
class Watch {
  state: HealthState;
  readonly #endpoint: Endpoint;
  readonly #slot: ClusterSlot;
  readonly #check: HealthCheck;
  readonly #runtime: CheckerRuntime;
  readonly #onResult: (before: HealthState) => void;
  #timer: Cancel | undefined;
  #probe: Probe | undefined;

  constructor(
    endpoint: Endpoint,
    slot: ClusterSlot,
    check: HealthCheck,
    runtime: CheckerRuntime,
    onResult: (before: HealthState) => void,
  ) {
    this.#endpoint = endpoint;
    this.#slot = slot;
    this.#check = check;
    this.#runtime = runtime;
    this.#onResult = onResult;
    this.state = { healthy: !endpoint.failedActiveCheck, checked: false, streak: 0 };
    this.#wait(runtime.random.next() * check.initialJitterMs);
  }

  #wait(delayMs: number): void {
    this.#timer = this.#runtime.clock.after(delayMs, () => {
      this.#probe = new Probe(this.#endpoint, this.#check, this.#runtime, (result) => {
        this.#probe = undefined;
        const before = this.state;
        this.state = judge(before, result, this.#check);
        this.#wait(nextCheckMs(this.state, this.#check, this.#slot.counts.connections > 0, this.#runtime.random));
        this.#onResult(before);
      });
    });
  }

  stop(): void {
    this.#timer?.();
    this.#probe?.abort();
  }
}

/** Where an endpoint is checked. */
export function checkTransport({ transport, placement }: Endpoint, check: HealthCheck): Transport {
  const port = placement.healthCheck?.port || check.port;
  if (port === 0) return transport;
  const { connectTarget } = transport;
  if (connectTarget === undefined) return { ...transport, port };
  return { ...transport, connectTarget: connectTarget.replace(/:\d+$/, `:${port}`) };
}

/** One check: dialling → asking → done. */
class Probe implements DialListener, SocketOwner {
  readonly #endpoint: Endpoint;
  readonly #check: HealthCheck;
  readonly #cancelTimer: Cancel;
  readonly #onDone: (result: CheckResult) => void;
  readonly #answer = new HeadAccumulator();
  #bytes = Buffer.alloc(0);
  #dial: Dial | undefined;
  #socket: OwnedSocket | undefined;
  #done = false;

  constructor(endpoint: Endpoint, check: HealthCheck, runtime: CheckerRuntime, onDone: (result: CheckResult) => void) {
    this.#endpoint = endpoint;
    this.#check = check;
    this.#onDone = onDone;
    this.#cancelTimer = runtime.clock.after(check.timeoutMs, () => this.#finish("fail"));
    this.#dial = new Dial(checkTransport(endpoint, check), check.timeoutMs, "", runtime, this);
  }

  abort(): void {
    this.#done = true;
    this.#cancelTimer();
    this.#dial?.abort();
    this.#socket?.terminate();
  }
  #finish(result: CheckResult): void {
    if (this.#done) return;
    this.abort();
    this.#onDone(result);
  }

  onDialFailed(): void {
    this.#dial = undefined;
    this.#finish("fail");
  }
  onDialed(socket: OwnedSocket, rest: Buffer | undefined): void {
    this.#dial = undefined;
    this.#socket = socket;
    socket.data = this;
    const { checker } = this.#check;
    if (checker.kind === "tcp") {
      if (checker.send) socket.write(checker.send);
      if (checker.receive.length === 0) this.#finish("pass");
    } else {
      const { method, path, fields } = checker;
      const host = this.#endpoint.placement.healthCheck?.host || checker.host;
      socket.write(
        `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\nuser-agent: Envoy/HC\r\n${fields}connection: close\r\n\r\n`,
      );
    }
    if (rest) this.onData(rest);
  }

  onData(chunk: Buffer): void {
    if (this.#done) return;
    const { checker } = this.#check;
    if (checker.kind === "tcp") {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      if (received(checker.receive, this.#bytes)) this.#finish("pass");
      else if (this.#bytes.length > receivedBytesMax) this.#finish("fail-now");
      return;
    }
    let all = this.#answer.append(chunk, 0, chunk.length, responseHeadBytesMax);
    while (all !== undefined && !this.#done) {
      const head = new Head();
      const end = scanResponseHead(head, all, 0, all.length);
      if (end <= 0) return this.#finish("fail-now");
      if (head.status >= 200) return this.#finish(judgeStatus(checker, head.status));
      // An interim answer: the real one follows.
      all = this.#answer.append(all, end, all.length, responseHeadBytesMax);
    }
  }
  onDrain(): void {}
  onEnd(): void {
    this.#finish("fail");
  }
  onClose(): void {
    this.#finish("fail");
  }
}
