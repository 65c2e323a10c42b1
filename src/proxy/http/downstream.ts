// The contract between a request and the client's codec. HTTP/1.1 implements it in server.ts, HTTP/2 in h2_server_stream.ts.

import type { Framing } from "../../wire/http1_body.ts";
import type { Head } from "../../wire/http1_head.ts";
import type { HeaderEdits } from "../../wire/http1_write.ts";
import type { ConnectionInfo, HttpChain } from "../chain.ts";
import type { UpstreamConnection } from "./upstream.ts";

export interface Downstream {
  readonly connection: ConnectionInfo;
  /** The client's codec takes bodies with their chunk framing (HTTP/1.1; not 1.0, not HTTP/2). */
  readonly understandsChunked: boolean;
  /** Bytes of the current answer written so far, head included. */
  readonly responseBytes: number;
  /** The connection ends with the current answer. */
  closeAfterAnswer(): void;
  sendContinue(): void;
  /** An interim answer (1xx) of the server. */
  sendInterim(head: Head): void;
  sendHead(head: Head, edits: HeaderEdits, framing: Framing, chain: HttpChain): void;
  /** False: full; the exchange's onDownstreamDrain follows. */
  /** `read`: a read of ours that nobody else keeps, see SocketWriter. */
  sendBody(chunk: Buffer, from: number, to: number, kind: "kept" | "read"): boolean;
  /** Sends what was held back to ride with its neighbours. */
  flush(): void;
  /** A whole answer made here. `headers` are complete lines. */
  sendLocal(status: number, body: string, headers: string, chain: HttpChain, contentType?: string): void;
  /** The answer's last byte has been given to sendBody; everything goes out. `trailers`: a trailer section, where the body has none. */
  finishBody(trailers: Buffer | undefined): void;
  /** The exchange is over. The codec may begin the next request from inside this call. */
  end(requestComplete: boolean): void;
  /** The answer broke off: the client must be able to notice. */
  reset(): void;
  /**
   * Sends the head of 101 or of a 2xx to CONNECT (without `head`: one of its own), then joins both sides byte for byte. The
   * exchange's onTunnelBytes and onTunnelClosed follow; `reset` breaks the tunnel.
   */
  upgrade(head: Head | undefined, edits: HeaderEdits, upstream: UpstreamConnection, rest: Buffer | undefined): void;
  pauseRequest(): void;
  resumeRequest(): void;
}
