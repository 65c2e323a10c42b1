// Sends requests byte for byte from an address of its own, over connections that are kept; reads answers.

import { connect, type Socket } from "node:net";

export interface Answer {
  /** 0: closed without an answer. */
  status: number;
  headers: ReadonlyMap<string, string>;
  body: string;
}

const timeoutMs = 5_000;

/** One kept connection, one request at a time. */
export class Connection {
  readonly #options: { host: string; port: number; localAddress: string };
  #socket: Socket | undefined;
  #text = "";
  #wake: (() => void) | undefined;
  #isClosed = true;

  constructor(localAddress: string, host: string, port: number) {
    this.#options = { host, port, localAddress };
  }

  async send(
    method: string,
    path: string,
    host: string,
    headers: readonly (readonly [string, string])[],
  ): Promise<Answer> {
    if (this.#isClosed) await this.#open();
    const lines = [
      `${method} ${path} HTTP/1.1`,
      `host: ${host}`,
      ...headers.map(([name, value]) => `${name}: ${value}`),
    ];
    this.#socket!.write(`${lines.join("\r\n")}\r\n\r\n`);
    const answer = await this.#read(method === "HEAD");
    if (answer.headers.get("connection") === "close") this.close();
    return answer;
  }

  async #open(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#text = "";
    this.#isClosed = false;
    const socket = connect(this.#options, resolve);
    this.#socket = socket;
    socket.setNoDelay(true);
    const over = (): void => {
      if (this.#socket !== socket) return;
      this.#isClosed = true;
      this.#wake?.();
      resolve();
    };
    socket.on("data", (chunk: Buffer) => {
      this.#text += chunk.toString("latin1");
      this.#wake?.();
    });
    socket.on("error", over);
    socket.on("close", over);
    await promise;
  }

  async #read(isHead: boolean): Promise<Answer> {
    for (;;) {
      const answer = this.#take(isHead);
      if (answer) return answer;
      if (this.#isClosed) return { status: 0, headers: new Map(), body: "" };
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      const timer = setTimeout(() => {
        this.close();
        resolve();
      }, timeoutMs);
      await promise;
      clearTimeout(timer);
    }
  }

  #take(isHead: boolean): Answer | undefined {
    const end = this.#text.indexOf("\r\n\r\n");
    if (end < 0) return undefined;
    const [first = "", ...lines] = this.#text.slice(0, end).split("\r\n");
    const headers = new Map(
      lines.map((line) => {
        const colon = line.indexOf(":");
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
      }),
    );
    const status = Number(first.split(" ")[1]);
    const length = isHead || status === 204 || status === 304 ? 0 : Number(headers.get("content-length") ?? 0);
    if (this.#text.length < end + 4 + length) return undefined;
    const body = this.#text.slice(end + 4, end + 4 + length);
    this.#text = this.#text.slice(end + 4 + length);
    return { status, headers, body };
  }

  close(): void {
    this.#isClosed = true;
    this.#socket?.destroy();
  }
}
