// The listening sockets of one process: what should be bound is compared with what is, and the difference made.

import type { TCPSocketListener } from "bun";
import { messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import type { OwnedSocket, SocketOwner } from "../wire/socket.ts";
import { bindSocket } from "./accept.ts";

export type OnConnection = (socket: OwnedSocket, onClosed: () => void) => void;

export interface WantedSocket {
  host: string;
  port: number;
  onConnection: OnConnection;
}

/** Sockets one process listens on; more are refused and logged. */
const socketsMax = 4_096;

export class Sockets {
  readonly #log: Log;
  readonly #bound = new Map<string, TCPSocketListener<SocketOwner>>();
  /** Could not be bound; said once. */
  readonly #failed = new Set<string>();
  #wanted: ReadonlyMap<string, WantedSocket> = new Map();
  /** Connections open now. */
  open = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  /** By "host:port". A socket no longer wanted stops accepting; its connections stay. */
  sync(wanted: ReadonlyMap<string, WantedSocket>): void {
    this.#wanted = wanted;
    for (const [key, listener] of this.#bound)
      if (!wanted.has(key)) {
        listener.stop();
        this.#bound.delete(key);
      }
    for (const [key, socket] of wanted) if (!this.#bound.has(key)) this.#bind(key, socket);
  }

  /** Tries again what could not be bound. */
  retry(): void {
    for (const key of this.#failed) {
      const socket = this.#wanted.get(key);
      if (socket === undefined || this.#bound.has(key)) this.#failed.delete(key);
      else this.#bind(key, socket);
    }
  }

  #bind(key: string, { host, port }: WantedSocket): void {
    try {
      if (this.#bound.size >= socketsMax) throw new Error(`more than ${socketsMax} sockets`);
      const accept: OnConnection = (socket, onClosed) => {
        this.open++;
        const closed = () => {
          this.open--;
          onClosed();
        };
        const current = this.#wanted.get(key);
        if (current) return current.onConnection(socket, closed);
        closed();
        socket.terminate();
      };
      this.#bound.set(key, bindSocket(host, port, accept));
      this.#failed.delete(key);
    } catch (error) {
      if (!this.#failed.has(key)) this.#log.warn("cannot listen", { address: key, error: messageOf(error) });
      this.#failed.add(key);
    }
  }

  close(): void {
    this.sync(new Map());
  }
}
