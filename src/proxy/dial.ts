// Opens a connection to an endpoint: TCP, then TLS with the peer's identity checked, then the CONNECT handshake, as its transport says.

import type { Cancel, Clock } from "../kernel/clock.ts";
import { type OwnedSocket, ownedHandlers, type SocketOwner } from "../wire/socket.ts";
import { connectRequest, TunnelAnswerReader } from "../wire/tunnel.ts";
import type { Transport } from "./clusters/cluster.ts";

export interface DialListener {
  /** The socket is the listener's now: it must set `socket.data`. `rest` was read past the tunnel's answer. */
  onDialed(socket: OwnedSocket, rest: Buffer | undefined): void;
  onDialFailed(reason: string): void;
}

/** A → B: connecting → securing (TLS only) → tunnelling (tunnel only) → done. Any failure → done. */
export class Dial implements SocketOwner {
  readonly #transport: Transport;
  readonly #listener: DialListener;
  readonly #baggage: string;
  readonly #cancelTimer: Cancel;
  #state: "connecting" | "securing" | "tunnelling" | "done" = "connecting";
  #socket: OwnedSocket | undefined;
  #answer: TunnelAnswerReader | undefined;

  constructor(transport: Transport, timeoutMs: number, baggage: string, clock: Clock, listener: DialListener) {
    this.#transport = transport;
    this.#listener = listener;
    this.#baggage = baggage;
    this.#cancelTimer = clock.after(timeoutMs, () => this.#fail("connection timeout"));
    this.#start();
  }

  #start(): void {
    const { host, port, tls } = this.#transport;
    const options = { hostname: host, port, socket: ownedHandlers, data: this as SocketOwner, allowHalfOpen: true };
    if (!tls) {
      Bun.connect(options).catch((error: Error) => this.#fail(error.message));
      return;
    }
    const secureContext = tls.context();
    if (secureContext === undefined) {
      // Told apart from the listener's own construction: it must not be called back before its constructor returns.
      queueMicrotask(() => this.#fail("the client certificate has not arrived"));
      return;
    }
    // The chain is verified by the TLS library; names are checked below, as a SPIFFE certificate has none it would accept.
    const settings = { secureContext, serverName: tls.serverName, rejectUnauthorized: false };
    Bun.connect({ ...options, tls: settings as Bun.TLSOptions }).catch((error: Error) => this.#fail(error.message));
  }

  /** Gives up; the listener is not called. */
  abort(): void {
    if (this.#state === "done") return;
    this.#finish();
    this.#socket?.terminate();
  }

  onOpen(socket: OwnedSocket): void {
    if (this.#state === "done") {
      socket.terminate();
      return;
    }
    this.#socket = socket;
    if (this.#transport.tls) this.#state = "securing";
    else this.#secured();
  }

  onHandshake(_success: boolean, error: Error | null): void {
    if (this.#state !== "securing") return;
    const refusal = this.#refusal(error);
    if (refusal !== undefined) this.#fail(refusal);
    else this.#secured();
  }

  /** Why the peer is not who it should be; undefined when it is. */
  #refusal(error: Error | null): string | undefined {
    return this.#transport.tls!.refusal(this.#socket!.getPeerX509Certificate(), error);
  }

  #secured(): void {
    const target = this.#transport.connectTarget;
    if (target === undefined) {
      this.#succeed(undefined);
      return;
    }
    this.#state = "tunnelling";
    this.#answer = new TunnelAnswerReader();
    // A fresh connection's send buffer takes a few hundred bytes; if it does not, something is wrong with the peer.
    const request = connectRequest(target, this.#baggage);
    if (this.#socket!.write(request) < request.length) this.#fail("the tunnel request could not be sent");
  }

  onData(chunk: Buffer): void {
    if (this.#state === "done") return;
    const answer = this.#state === "tunnelling" ? this.#answer!.read(chunk) : undefined;
    if (answer === undefined) {
      if (this.#state !== "tunnelling") this.#fail("the server spoke before its turn");
      return;
    }
    if (answer.established) this.#succeed(answer.rest.length > 0 ? answer.rest : undefined);
    else this.#fail(answer.status === 0 ? "the tunnel's answer is not HTTP" : `the tunnel answered ${answer.status}`);
  }
  onDrain(): void {}
  onEnd(): void {
    this.#fail("connection closed");
  }
  onClose(error: Error | undefined): void {
    this.#fail(error?.message ?? "connection closed");
  }
  onConnectError(error: Error): void {
    this.#fail(error.message);
  }

  #succeed(rest: Buffer | undefined): void {
    const socket = this.#socket!;
    this.#finish();
    this.#listener.onDialed(socket, rest);
  }
  #fail(reason: string): void {
    if (this.#state === "done") return;
    this.#finish();
    this.#socket?.terminate();
    this.#listener.onDialFailed(reason);
  }
  #finish(): void {
    this.#state = "done";
    this.#cancelTimer();
  }
}
