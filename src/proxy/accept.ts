// From a bare accepted connection to its filter chain: TLS sniffing, chain choice, TLS termination, and the tunnel's CONNECT.

import type { X509Certificate } from "node:crypto";
import type { TCPSocketListener } from "bun";
import { HeadAccumulator } from "../wire/accumulate.ts";
import { type ClientHello, clientHelloBytesMax, sniffClientHello } from "../wire/client_hello.ts";
import { Head, scanRequestHead } from "../wire/http1_head.ts";
import { readProxyHeader } from "../wire/proxy_protocol.ts";
import { closeSocket, nobody, type OwnedSocket, ownedHandlers, type SocketOwner } from "../wire/socket.ts";
import { tunnelEstablished, tunnelRefused } from "../wire/tunnel.ts";
import type { ChainSlot, ConnectionInfo, Runtime } from "./chain.ts";
import { unknownWorkload } from "./clusters/cluster.ts";
import type { CompiledChain, CompiledListener } from "./compile/listener.ts";
import { chooseMatch } from "./routing/chain_match.ts";
import { startChain } from "./start_chain.ts";
import type { Swept } from "./sweep.ts";
import { callerAddress, workloadOfBaggage } from "./telemetry/edges.ts";
import { holderNames, spiffeIdOf } from "./tls/alt_names.ts";
import type { ServerTls } from "./tls/compile_server.ts";
import { noteRefusal, type Refusal } from "./tls/refusals.ts";
import { judge, type Validation } from "./tls/validation.ts";

/** From accept to the chosen chain, handshake included. */
const acceptTimeoutMs = 10_000;
const connectHeadBytesMax = 8 * 1024;

/** A listener as found for one connection. `tunnelChain` finds the chain behind a CONNECT target. */
export interface Destination {
  listener: CompiledListener;
  /** Chains are matched by this port; differs from the socket's for a tunnel. */
  tunnelChain(host: string, port: number): ChainSlot | undefined;
}

/** A → B: sniffing → securing → (connecting, for tunnels) → handed over. */
export class Acceptance implements SocketOwner, Swept {
  #socket: OwnedSocket;
  readonly #destination: Destination;
  readonly #info: ConnectionInfo;
  readonly #runtime: Runtime;
  readonly #onClosed: () => void;
  readonly #startedMs: number;
  #state: "sniffing" | "securing" | "connecting" | "over" = "sniffing";
  #bytes: Buffer | undefined;
  #awaitsProxyHeader: boolean;
  #chain: CompiledChain | undefined;
  readonly #connectHead = new HeadAccumulator();

  constructor(
    socket: OwnedSocket,
    destination: Destination,
    info: ConnectionInfo,
    runtime: Runtime,
    early: Buffer | undefined,
    onClosed: () => void,
  ) {
    this.#socket = socket;
    this.#destination = destination;
    this.#info = info;
    this.#runtime = runtime;
    this.#onClosed = onClosed;
    this.#startedMs = runtime.sweeper.nowMs;
    socket.data = this;
    this.#awaitsProxyHeader = destination.listener.proxyProtocol;
    if (!destination.listener.sniffsTls && !this.#awaitsProxyHeader) {
      this.#start(undefined, early);
      return;
    }
    runtime.sweeper.add(this);
    if (early?.length) this.onData(early);
  }

  onData(chunk: Buffer): void {
    if (this.#state === "connecting") this.#readConnect(chunk);
    if (this.#state !== "sniffing") return;
    const bytes = this.#bytes ? Buffer.concat([this.#bytes, chunk]) : chunk;
    this.#bytes = bytes;
    if (this.#awaitsProxyHeader) this.#readProxyHeader(bytes);
    else this.#sniff(bytes);
  }

  /** A balancer in front tells whose connection it is: from here on, its client is ours. */
  #readProxyHeader(bytes: Buffer): void {
    const header = readProxyHeader(bytes);
    if (header === "more") return;
    if (header === undefined) {
      this.#refuse();
      return;
    }
    this.#awaitsProxyHeader = false;
    if (header.source) {
      this.#info.remoteAddress = header.source.address;
      this.#info.remotePort = header.source.port;
    }
    const rest = header.length < bytes.length ? bytes.subarray(header.length) : undefined;
    this.#bytes = rest;
    if (!this.#destination.listener.sniffsTls) this.#start(undefined, rest);
    else if (rest) this.#sniff(rest);
  }

  #sniff(bytes: Buffer): void {
    const hello = sniffClientHello(bytes);
    if (hello === "more") {
      if (bytes.length > clientHelloBytesMax) this.#refuse();
      return;
    }
    this.#bytes = undefined;
    this.#info.serverName = hello?.serverName ?? "";
    this.#start(hello, bytes);
  }

  #start(hello: ClientHello | undefined, early: Buffer | undefined): void {
    const { listener } = this.#destination;
    const { localAddress, localPort, remoteAddress, remotePort } = this.#info;
    // Most listeners have one chain that takes everything.
    const chain =
      chooseMatch(listener.chains, { localAddress, localPort, remoteAddress, remotePort, hello }) ?? listener.fallback;
    this.#chain = chain;
    if (!chain) this.#refuse();
    else if (!chain.tls) this.#handOver(chain.slot, early);
    else if (hello && (hello.serverName !== "" || !chain.tls.requireServerName)) this.#secure(chain.tls, hello, early!);
    else this.#refuse();
  }

  #secure(tls: ServerTls, hello: ClientHello, early: Buffer): void {
    const secureContext = tls.context(hello.serverName);
    if (secureContext === undefined) {
      this.#runtime.log.warn("no certificate yet, connection refused", { listener: this.#destination.listener.name });
      this.#refuse();
      return;
    }
    this.#state = "securing";
    const raw = this.#socket;
    // `isServer` and `initialData` are what Bun's own node:tls uses; they are missing from its type declarations.
    const options = {
      isServer: true,
      initialData: early,
      data: this as SocketOwner,
      socket: ownedHandlers,
      tls: {
        secureContext,
        requestCert: tls.requestCert,
        rejectUnauthorized: tls.requireCert && needsGoodChain(tls.validation()),
        ...(tls.alpn.length > 0 && { ALPNProtocols: tls.alpn }),
      },
    };
    const [, secured] = raw.upgradeTLS(options as unknown as Bun.TLSUpgradeOptions<SocketOwner>);
    // The raw half still reports ciphertext and its close: nobody listens.
    raw.data = nobody;
    secured.data = this;
    this.#socket = secured;
  }

  onHandshake(success: boolean, error: Error | null): void {
    if (this.#state !== "securing") return;
    const tls = this.#chain!.tls!;
    const certificate = success && tls.requestCert ? this.#socket.getPeerX509Certificate() : undefined;
    const refusal = success ? refusalOf(tls, certificate, error, this.#info) : failureOf(error);
    if (refusal !== undefined) {
      noteRefusal(this.#runtime, this.#destination.listener.name, this.#info.remoteAddress, refusal);
      this.#refuse();
      return;
    }
    const info = this.#info;
    info.secure = true;
    info.session = this.#socket;
    if (this.#destination.listener.isTunnel) this.#state = "connecting";
    else this.#handOver(this.#chain!.slot, undefined);
  }

  #readConnect(chunk: Buffer): void {
    const all = this.#connectHead.append(chunk, 0, chunk.length, connectHeadBytesMax);
    if (all === undefined) return;
    const head = new Head();
    const end = all.length > connectHeadBytesMax ? -1 : scanRequestHead(head, all, 0, all.length);
    const target = end > 0 && head.method() === "CONNECT" ? /^([\d.]+):(\d{1,5})$/.exec(head.target()) : null;
    if (!target || !this.#info.peer.authenticated) {
      this.#refuseTunnel(target ? 403 : 400, target ? "Forbidden" : "Bad Request");
      return;
    }
    const [, host, port] = target;
    const slot = this.#destination.tunnelChain(host!, Number(port));
    if (!slot?.current) {
      this.#refuseTunnel(503, "Service Unavailable");
      return;
    }
    const info = this.#info;
    const { principal } = info.peer.identity;
    info.peer = { identity: workloadOfBaggage(head.get("baggage") ?? "", principal), authenticated: true };
    info.remoteAddress = callerAddress(head.get("forwarded") ?? "") ?? info.remoteAddress;
    info.localAddress = host!;
    info.localPort = Number(port);
    this.#socket.write(tunnelEstablished);
    this.#handOver(slot, end < all.length ? all.subarray(end) : undefined);
  }

  #refuseTunnel(status: number, reason: string): void {
    this.#socket.write(tunnelRefused(status, reason));
    this.#over();
    this.#onClosed();
    this.#socket.data = nobody;
    closeSocket(this.#socket);
  }

  #handOver(slot: ChainSlot, early: Buffer | undefined): void {
    this.#over();
    startChain(this.#socket, slot, this.#info, this.#runtime, early, this.#onClosed);
  }
  #refuse(): void {
    if (this.#state === "over") return;
    this.#over();
    this.#onClosed();
    this.#socket.data = nobody;
    // Not reset: an alert may still be on its way.
    closeSocket(this.#socket);
  }
  #over(): void {
    this.#state = "over";
    this.#runtime.sweeper.delete(this);
  }

  onTick(nowMs: number): void {
    if (nowMs - this.#startedMs > acceptTimeoutMs) this.#refuse();
  }
  onDrain(): void {}
  onEnd(): void {
    this.#refuse();
  }
  onClose(): void {
    if (this.#state === "over") return;
    this.#over();
    this.#onClosed();
  }
}

/** The library may refuse by itself, with an alert, unless a certificate it does not like may still be accepted. */
const needsGoodChain = (validation: Validation | undefined): boolean =>
  validation?.ca !== undefined && !validation.acceptsUntrusted;

/** The library has ended it. */
function failureOf(error: Error | null): Refusal {
  const reason = error?.message ?? "no TLS session";
  if (/did.not.return.a.certificate/i.test(reason)) return { kind: "fail_verify_no_cert", reason };
  return { kind: /certificate/i.test(reason) ? "fail_verify_error" : "connection_error", reason };
}

/** Why the client may not come in; undefined when it may, with `info.peer` set to who it has proved to be. `error`: of its chain. */
function refusalOf(
  tls: ServerTls,
  certificate: X509Certificate | undefined,
  error: Error | null,
  info: ConnectionInfo,
): Refusal | undefined {
  if (!tls.requestCert) return undefined;
  if (certificate === undefined)
    return tls.requireCert ? { kind: "fail_verify_no_cert", reason: "no client certificate" } : undefined;
  const validation = tls.validation();
  if (validation === undefined)
    return { kind: "fail_verify_error", reason: "nothing to verify the client certificate with" };
  const judgement = judge(validation, certificate, error);
  if (!judgement.accepted) return judgement;
  if (!judgement.verified) return undefined;
  const principal = spiffeIdOf(certificate.subjectAltName);
  const names = holderNames(certificate);
  info.peer = principal
    ? { identity: { ...unknownWorkload, principal }, authenticated: true, names }
    : { ...info.peer, names };
  return undefined;
}

/** Connections open at once per bound socket; more are closed at accept. */
export const connectionsPerSocketMax = 20_000;

/** Binds a listening socket. Connections arrive in `onConnection`, which must set `socket.data`. Throws when it cannot bind. */
export function bindSocket(
  host: string,
  port: number,
  onConnection: (socket: OwnedSocket, onClosed: () => void) => void,
): TCPSocketListener<SocketOwner> {
  let open = 0;
  const onClosed = (): void => {
    open--;
  };
  const { open: _open, ...handlers } = ownedHandlers;
  const options = {
    hostname: host,
    port,
    // A gateway on the same node binds its own address beside a wildcard socket.
    reusePort: true,
    allowHalfOpen: true,
    socket: {
      ...handlers,
      open(socket: OwnedSocket) {
        socket.data = nobody;
        if (open >= connectionsPerSocketMax) {
          socket.terminate();
          return;
        }
        open++;
        onConnection(socket, onClosed);
      },
    },
  };
  return Bun.listen(options as unknown as Bun.TCPSocketListenOptions<SocketOwner>);
}
