// Opens a connection to an endpoint: TCP, then TLS with the peer's identity checked, then the CONNECT handshake, as its transport says.

import type { Cancel } from "../kernel/clock.ts";
import { type OwnedSocket, ownedHandlers, type SocketOwner } from "../wire/socket.ts";
import { connectRequest, TunnelAnswerReader } from "../wire/tunnel.ts";
import type { Runtime } from "./chain.ts";
import type { Transport } from "./clusters/cluster.ts";
import { isPortTaken, type PodSource, sourcePortTriesMax } from "./pod_source.ts";
import { wireAlpn } from "./tls/params.ts";

export interface DialListener {
  /** The socket is the listener's now: it must set `socket.data`. `rest` was read past the tunnel's answer. */
  onDialed(socket: OwnedSocket, rest: Buffer | undefined): void;
  onDialFailed(reason: string): void;
}

/** A → B: connecting → securing (TLS only) → tunnelling (tunnel only) → done. Any failure → done. */
export class Dial implements SocketOwner {
  readonly #transport: Transport;
  readonly #listener: DialListener;
  readonly #caller: string;
  readonly #alpn: string;
  readonly #source: PodSource | undefined;
  #sourceTries = 0;
  readonly #cancelTimer: Cancel;
  #state: "connecting" | "securing" | "tunnelling" | "done" = "connecting";
  #socket: OwnedSocket | undefined;
  #answer: TunnelAnswerReader | undefined;

  /** `caller`: complete header lines for the tunnel's other side. `entered`: the inbound chain of the pod that is dialled was gone through. */
  constructor(
    transport: Transport,
    timeoutMs: number,
    caller: string,
    runtime: Pick<Runtime, "clock" | "podSource">,
    listener: DialListener,
    entered = false,
    /** "h2": the one protocol that is offered to the server, where TLS goes to the server itself. */
    alpn = "",
  ) {
    this.#transport = transport;
    this.#listener = listener;
    this.#caller = caller;
    this.#alpn = transport.connectTarget === undefined ? alpn : "";
    this.#source = runtime.podSource(transport.host, entered);
    this.#cancelTimer = runtime.clock.after(timeoutMs, () => this.#fail("connection timeout"));
    this.#start();
  }

  #start(): void {
    const { host: hostname, port, tls } = this.#transport;
    const source = this.#source;
    const options = {
      hostname,
      port,
      socket: ownedHandlers,
      data: this as SocketOwner,
      allowHalfOpen: true,
      // Both are missing from Bun's type declarations.
      ...(source && { localAddress: source.address, localPort: source.nextPort() }),
    };
    if (!tls) {
      Bun.connect(options).catch(this.#onRejected);
      return;
    }
    const secureContext = tls.context();
    if (secureContext === undefined) {
      // Told apart from the listener's own construction: it must not be called back before its constructor returns.
      queueMicrotask(() => this.#fail("the client certificate has not arrived"));
      return;
    }
    // The chain is verified by the TLS library; names are checked below, as a SPIFFE certificate has none it would accept.
    const settings = {
      secureContext,
      serverName: tls.serverName,
      rejectUnauthorized: false,
      ...(this.#alpn !== "" && { ALPNProtocols: wireAlpn([this.#alpn]) }),
    };
    Bun.connect({ ...options, tls: settings as Bun.TLSOptions }).catch(this.#onRejected);
  }
  /** It was told of by `onConnectError` before. */
  readonly #onRejected = (error: Error): void => {
    if (!isPortTaken(error as { code?: string }) || this.#source === undefined) this.#fail(error.message);
  };

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
    const request = connectRequest(target, this.#caller);
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
    const isTaken = this.#source !== undefined && isPortTaken(error as { code?: string });
    if (isTaken && this.#state === "connecting" && ++this.#sourceTries < sourcePortTriesMax) this.#start();
    // The kernel may say so at once: not before the constructor returns.
    else queueMicrotask(() => this.#fail(error.message));
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
