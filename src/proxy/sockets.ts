// The listening sockets of one process: what should be bound is compared with what is, and the difference made.

import type { TCPSocketListener } from "bun";
import { messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import type { OwnedSocket, SocketOwner } from "../wire/socket.ts";
import { bindSocket } from "./accept.ts";
import { steerAway } from "./steer.ts";

export type OnConnection = (socket: OwnedSocket, onClosed: () => void) => void;

export interface WantedSocket {
  host: string;
  port: number;
  onConnection: OnConnection;
}

/** Sockets one process listens on; more are refused and logged. */
const socketsMax = 4_096;

interface BoundSocket {
  host: string;
  counts: { connections: number; active: number };
  listener: TCPSocketListener<SocketOwner>;
}

/** Listeners of one address share a socket; those that take any port (0) do not. */
export const socketKey = ({ name, host, port }: { name: string; host: string; port: number }): string =>
  port === 0 ? `${host}:0 ${name}` : `${host}:${port}`;

export class Sockets {
  readonly #log: Log;
  readonly #bound = new Map<string, BoundSocket>();
  /** Could not be bound, and why; said once. */
  readonly #failed = new Map<string, string>();
  #wanted: ReadonlyMap<string, WantedSocket> = new Map();
  #held: boolean;
  #closed = false;
  /** Connections open now. */
  open = 0;

  /** `held`: a predecessor still serves, and nothing is bound before `release`. */
  constructor(log: Log, held = false) {
    this.#log = log;
    this.#held = held;
  }

  release(): void {
    this.#held = false;
    this.sync(this.#wanted);
  }
  /** New connections go to the process that bound the same addresses after us, if there is one. */
  steerAway(): void {
    steerAway(
      [...this.#bound.values()].map(({ listener }) => fileDescriptor(listener)),
      this.#log,
    );
  }

  /** By "host:port". A socket no longer wanted stops accepting; its connections stay. */
  sync(wanted: ReadonlyMap<string, WantedSocket>): void {
    if (this.#closed) return;
    this.#wanted = wanted;
    if (this.#held) return;
    for (const [key, { listener }] of this.#bound)
      if (!wanted.has(key)) {
        listener.stop();
        this.#bound.delete(key);
      }
    for (const [key, socket] of wanted) if (!this.#bound.has(key)) this.#bind(key, socket);
  }

  /** Tries again what could not be bound. */
  retry(): void {
    for (const key of this.#failed.keys()) {
      const socket = this.#wanted.get(key);
      if (socket === undefined || this.#bound.has(key)) this.#failed.delete(key);
      else this.#bind(key, socket);
    }
  }

  #bind(key: string, { host, port }: WantedSocket): void {
    try {
      if (this.#bound.size >= socketsMax) throw new Error(`more than ${socketsMax} sockets`);
      const counts = { connections: 0, active: 0 };
      const accept: OnConnection = (socket, onClosed) => {
        this.open++;
        counts.connections++;
        counts.active++;
        const closed = () => {
          this.open--;
          counts.active--;
          onClosed();
        };
        const current = this.#wanted.get(key);
        if (current) return current.onConnection(socket, closed);
        closed();
        socket.terminate();
      };
      this.#bound.set(key, { host, counts, listener: bindSocket(host, port, accept) });
      this.#failed.delete(key);
    } catch (error) {
      if (!this.#failed.has(key)) this.#log.warn("cannot listen", { address: key, error: messageOf(error) });
      this.#failed.set(key, messageOf(error));
    }
  }

  /** What is listened on, with the connections accepted so far and open now. */
  bound(): { host: string; port: number; connections: number; active: number }[] {
    return [...this.#bound.values()].map(({ host, counts, listener }) => ({ host, port: listener.port, ...counts }));
  }
  /** The real port behind a key; undefined while it is not bound. */
  portOf(key: string): number | undefined {
    return this.#bound.get(key)?.listener.port;
  }
  /** Wanted, but not bound, and why. */
  failures(): ReadonlyMap<string, string> {
    return this.#failed;
  }

  /** For good: what is wanted later is not bound any more. */
  close(): void {
    this.sync(new Map());
    this.#closed = true;
  }
}

/** Missing from Bun's type declarations. */
const fileDescriptor = (listener: TCPSocketListener<SocketOwner>): number => (listener as unknown as { fd: number }).fd;
