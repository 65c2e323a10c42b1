// What forwarding needs of the request it forwards: the contract between an exchange and its upstream half.

import type { Framing } from "../../wire/http1_body.ts";
import type { Head } from "../../wire/http1_head.ts";
import type { HeaderEdits } from "../../wire/http1_write.ts";
import type { ConnectionInfo, HttpChain } from "../chain.ts";
import type { RequestView } from "./request.ts";
import type { UpstreamConnection } from "./upstream.ts";

export interface ForwardingOwner {
  readonly request: RequestView;
  readonly requestEdits: HeaderEdits;
  /** The client's connection. */
  readonly client: ConnectionInfo;
  readonly chain: HttpChain;
  readonly isHead: boolean;
  readonly isUpgrade: boolean;
  readonly requestComplete: boolean;
  /** Body bytes of the answer are wanted without chunk framing. */
  readonly wantsPayload: boolean;
  /** An endpoint in this very process is reached through its inbound chain directly, not over the wire. */
  readonly entersNeighbours: boolean;
  /** Runs a neighbour's filters, then calls `open`. */
  runFilters(chain: HttpChain, from: number): void;
  /** Recorded as a response flag beside that of the answer. */
  addFlag(flag: string): void;
  reply(status: number, body: string, flags: string, headers?: string, details?: string): void;
  /** A complete header line for the answer. */
  addResponseHeader(line: string): void;
  onHead(head: Head, framing: Framing): void;
  onBody(chunk: Buffer, from: number, to: number): boolean;
  /** Before onEnd: the answer's trailers, where its body does not carry them. */
  onTrailers(section: Buffer): void;
  onEnd(): void;
  flush(): void;
  /** An interim answer (1xx), at most one per request. */
  onInterim(head: Head): void;
  onUpgraded(head: Head | undefined, upstream: UpstreamConnection, rest: Buffer | undefined): void;
  pauseRequest(): void;
  resumeRequest(): void;
}
