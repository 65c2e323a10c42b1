// What a node's proxy dials its own pods from: the kernel lets only connections from that address past the proxy's listeners.

/** A proxy's listeners are below, but for those users ask for: then the next port is tried. */
const portFirst = 32_768;
const portLast = 65_535;
/** Ports tried for one connection. One in use for the same destination, or listened on, is passed over. */
export const sourcePortTriesMax = 16;

export class PodSource {
  readonly address: string;
  #port: number;

  /** `random`: from 0 to 1; where to begin, so that a successor on the same address does not meet its predecessor's connections. */
  constructor(address: string, random: number) {
    this.address = address;
    this.#port = portFirst + Math.floor(random * (portLast - portFirst));
  }

  /** A chosen port is free for each destination apart; one that the kernel chooses is taken for all. */
  nextPort(): number {
    this.#port = this.#port >= portLast ? portFirst : this.#port + 1;
    return this.#port;
  }
}

/** Of an error in binding or connecting: this port is taken. */
export const isPortTaken = ({ code }: { code?: string }): boolean => code === "EADDRINUSE" || code === "EADDRNOTAVAIL";
