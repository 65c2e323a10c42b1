// The CONNECT handshake that opens a node-to-node tunnel (RFC 9110 §9.3.6): one request, one answer, then plain bytes.

import { HeadAccumulator } from "./accumulate.ts";
import { Head, scanResponseHead } from "./http1_head.ts";

/** An answer to CONNECT longer than this is refused. */
const answerBytesMax = 8 * 1024;

/** `target` is "ip:port"; `caller`: complete header lines that tell the other side who calls. */
export function connectRequest(target: string, caller: string): Buffer {
  return Buffer.from(`CONNECT ${target} HTTP/1.1\r\nhost: ${target}\r\n${caller}\r\n`, "latin1");
}

export const tunnelEstablished: Buffer = Buffer.from("HTTP/1.1 200 OK\r\n\r\n");

/** The refusal of a CONNECT, after which the connection is closed. */
export function tunnelRefused(status: number, reason: string): Buffer {
  return Buffer.from(`HTTP/1.1 ${status} ${reason}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`, "latin1");
}

export type TunnelAnswer = { established: true; rest: Buffer } | { established: false; status: number };

/** Reads the answer to CONNECT as it arrives. */
export class TunnelAnswerReader {
  readonly #bytes = new HeadAccumulator();

  /** Undefined while bytes are missing; status 0 for an answer that is not HTTP. */
  read(chunk: Buffer): TunnelAnswer | undefined {
    const all = this.#bytes.append(chunk, 0, chunk.length, answerBytesMax);
    if (all === undefined) return undefined;
    const head = new Head();
    const end = all.length > answerBytesMax ? -1 : scanResponseHead(head, all, 0, all.length);
    if (end <= 0) return { established: false, status: 0 };
    if (head.status < 200 || head.status > 299) return { established: false, status: head.status };
    return { established: true, rest: all.subarray(end) };
  }
}
