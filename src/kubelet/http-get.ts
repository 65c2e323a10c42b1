// One HTTP/1.1 GET over a connection of its own, for probes and lifecycle hooks: no proxy settings, no redirects, no pool.

import type { Clock } from "../kernel/clock.ts";

export interface HttpGet {
  scheme: "http" | "https";
  host: string;
  port: number;
  path: string;
  headers: readonly { name: string; value: string }[];
  /** Address of ours to dial from; undefined: whichever the system takes. */
  from?: string | undefined;
}

/** Answers longer than this are not read to the end (kubelet: 10 KiB of body). */
const answerBytesMax = 64 * 1024;

/** The status code. Rejects with the message Go's client would give. Certificates are not checked, as the kubelet does not. */
export function httpGet(request: HttpGet, timeoutMs: number, clock: Clock): Promise<number> {
  const { scheme, host, port, path, from } = request;
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const url = `${scheme}://${host}:${port}${path}`;
  let head = "";
  let sizeBytes = 0;
  let status: number | undefined;
  let socket: Bun.Socket | undefined;
  let over = false;
  const finish = (error?: string) => {
    if (over) return;
    over = true;
    cancel();
    socket?.end();
    if (status !== undefined) resolve(status);
    else reject(new Error(`Get ${JSON.stringify(url)}: ${error ?? "EOF"}`));
  };
  const cancel = clock.after(timeoutMs, () => {
    finish("context deadline exceeded (Client.Timeout exceeded while awaiting headers)");
    socket?.terminate();
  });
  const send = (opened: Bun.Socket) => {
    socket = opened;
    if (over) opened.terminate();
    else opened.write(requestHead(request));
  };
  Bun.connect({
    hostname: host,
    port,
    ...(from !== undefined && { localAddress: from }),
    ...(scheme === "https" ? { tls: { rejectUnauthorized: false } } : {}),
    socket: {
      open: (opened) => {
        if (scheme === "http") send(opened);
      },
      handshake: (opened) => send(opened),
      data: (_socket, chunk) => {
        sizeBytes += chunk.length;
        if (status === undefined) {
          head += chunk.toString("latin1");
          const line = /^HTTP\/1\.[01] (\d{3})[^\n]*\n/.exec(head);
          if (line !== null) status = Number(line[1]);
          else if (head.includes("\n")) finish(`malformed HTTP response ${JSON.stringify(head.split("\n", 1)[0])}`);
        }
        if (sizeBytes > answerBytesMax) finish("response too large");
      },
      close: () => finish(),
      error: (_socket, error) => finish(error.message),
    },
  }).catch((error) => finish(dialError(host, port, error)));
  return promise;
}

function requestHead({ host, port, path, headers }: HttpGet): string {
  const names = new Set(headers.map((header) => header.name.toLowerCase()));
  let text = `GET ${path} HTTP/1.1\r\n`;
  if (!names.has("host")) text += `Host: ${host}:${port}\r\n`;
  if (!names.has("user-agent")) text += "User-Agent: kube-probe/1.32\r\n";
  if (!names.has("accept")) text += "Accept: */*\r\n";
  for (const { name, value } of headers) text += `${name}: ${value}\r\n`;
  return `${text}Connection: close\r\n\r\n`;
}

function dialError(host: string, port: number, error: unknown): string {
  const code = (error as { code?: string }).code;
  const what = code === "ECONNREFUSED" ? "connection refused" : (code ?? String(error));
  return `dial tcp ${host}:${port}: connect: ${what}`;
}

/** Resolves when a TCP connection could be opened. */
export function tcpConnect(
  { host, port, from }: Pick<HttpGet, "host" | "port" | "from">,
  timeoutMs: number,
  clock: Clock,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let over = false;
  const finish = (error?: string) => {
    if (over) return;
    over = true;
    cancel();
    if (error === undefined) resolve();
    else reject(new Error(error));
  };
  const cancel = clock.after(timeoutMs, () => finish(`dial tcp ${host}:${port}: i/o timeout`));
  Bun.connect({
    hostname: host,
    port,
    ...(from !== undefined && { localAddress: from }),
    socket: {
      open: (socket) => {
        finish();
        socket.end();
      },
      data: () => {},
      error: () => {},
    },
  }).catch((error) => finish(dialError(host, port, error)));
  return promise;
}
