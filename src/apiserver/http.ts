// The API over HTTPS, HTTP/1.1 and HTTP/2: bodies in, answers and watch streams out. Knows nothing of objects.

import type { IncomingHttpHeaders } from "node:http";
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from "node:http2";
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { WatchEvent } from "../api/object.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import { userOf } from "./authentication.ts";
import type { Core } from "./core.ts";
import { badRequest, statusOf, tooLarge, unauthorized, unsupportedMediaType } from "./failure.ts";
import type { Observe } from "./request-metrics.ts";
import type { Answer, CoreRequest } from "./types.ts";

/** As kube-apiserver (MaxRequestBodyBytes). */
const bodySizeBytesMax = 3 * 1024 * 1024;
/** Connections at a time; further ones are closed at once. */
const connectionsMax = 4096;
const protobufType = "application/vnd.kubernetes.protobuf";

export interface HttpsOptions {
  certPem: string;
  keyPem: string;
  clientCaPem: string;
}

export interface HttpsServer {
  listen(port: number, host: string): Promise<number>;
  close(): Promise<void>;
}

export function createHttpsServer(core: Core, tls: HttpsOptions, observe: Observe, log: Log): HttpsServer {
  const sockets = new Set<Socket>();
  const server: Http2SecureServer = createSecureServer(
    {
      cert: tls.certPem,
      key: tls.keyPem,
      ca: tls.clientCaPem,
      allowHTTP1: true,
      requestCert: true,
      // Whoever shows no certificate or a foreign one gets an answer that says so, not a broken handshake.
      rejectUnauthorized: false,
      minVersion: "TLSv1.2",
    },
    (request, response) => {
      serve(core, observe, request, response).catch((error) => {
        log.debug("connection broke", { path: request.url, error: messageOf(error) });
        cutOff(response);
      });
    },
  );
  server.maxConnections = connectionsMax;
  server.on("secureConnection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    socket.on("error", (error) => log.debug("connection failed", { error: messageOf(error) }));
  });
  server.on("sessionError", (error) => log.debug("session failed", { error: messageOf(error) }));
  return {
    listen: (port, host) =>
      new Promise((resolve, reject) => {
        server.once("error", reject);
        server.listen(port, host, () => {
          server.off("error", reject);
          server.on("error", (error) => log.warn("server failed", { error: messageOf(error) }));
          resolve((server.address() as { port: number }).port);
        });
      }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** Breaks the stream, so that a half answer is not taken for a whole one. */
function cutOff(response: Http2ServerResponse): void {
  // Over HTTP/1.1 this is node:http's answer, which has no stream. An HTTP/2 stream is closed with an error: Bun would
  // send a bare end of data otherwise.
  if (response.stream) response.stream.destroy(new Error("aborted"));
  else response.socket?.destroy();
}

async function serve(
  core: Core,
  observe: Observe,
  incoming: Http2ServerRequest,
  response: Http2ServerResponse,
): Promise<void> {
  const abort = new AbortController();
  response.once("close", () => abort.abort());
  const url = new URL(incoming.url, "https://meshbed");
  const query = Object.fromEntries(url.searchParams);
  const head = { method: incoming.method, path: url.pathname, query };
  const finished = observe(head);
  let answer: Answer;
  try {
    const request = await coreRequest(incoming, head, abort.signal);
    answer = await core.handle(request);
  } catch (error) {
    const status = statusOf(error);
    answer = { kind: "json", status: status.code, body: status, warnings: [] };
  }
  finished(answer);
  const wantsYaml = /^application\/yaml\b/.test(headerOf(incoming.headers, "accept"));
  const knownEtag = headerOf(incoming.headers, "if-none-match");
  await send(response, answer, { headOnly: incoming.method === "HEAD", knownEtag, wantsYaml, signal: abort.signal });
}

const headerOf = (headers: IncomingHttpHeaders, name: string): string => String(headers[name] ?? "");

async function coreRequest(
  incoming: Http2ServerRequest,
  head: Pick<CoreRequest, "method" | "path" | "query">,
  signal: AbortSignal,
): Promise<CoreRequest> {
  // Over HTTP/2 the request's own socket is a proxy that hides the certificate.
  const socket = incoming.stream?.session?.socket ?? incoming.socket;
  const user = userOf(socket as TLSSocket);
  if (user === undefined) throw unauthorized();
  const contentType = headerOf(incoming.headers, "content-type");
  const bytes = head.method === "GET" || head.method === "HEAD" ? undefined : await readBody(incoming);
  return {
    ...head,
    accept: headerOf(incoming.headers, "accept"),
    contentType: contentType || "application/json",
    ...(bytes === undefined || bytes.length === 0
      ? { body: undefined, bodyText: undefined }
      : await decodeBody(contentType, bytes)),
    user,
    signal,
  };
}

async function readBody(incoming: Http2ServerRequest): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > bodySizeBytesMax) throw tooLarge(bodySizeBytesMax);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** `bodyText` is there where fields can be unknown or doubled: protobuf has neither. */
async function decodeBody(contentType: string, bytes: Buffer): Promise<Pick<CoreRequest, "body" | "bodyText">> {
  const type = contentType.split(";")[0]!.trim();
  if (type !== protobufType) {
    const bodyText = bytes.toString();
    return { body: await parseBody(type, bodyText), bodyText };
  }
  const { decodeProtobuf } = await import("./protobuf.ts");
  return { body: await decodeProtobuf(bytes), bodyText: undefined };
}

async function parseBody(type: string, text: string): Promise<unknown> {
  if (type === "" || type === "application/json" || type.endsWith("+json")) {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw badRequest(`the body is not valid JSON: ${messageOf(error)}`);
    }
  }
  if (type === "application/yaml" || type === "application/apply-patch+yaml") {
    const { parse } = await import("yaml");
    try {
      return parse(text);
    } catch (error) {
      throw badRequest(`the body is not valid YAML: ${messageOf(error)}`);
    }
  }
  throw unsupportedMediaType(
    `the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, ${protobufType} (found ${type})`,
  );
}

interface SendOptions {
  headOnly: boolean;
  /** If-None-Match of the request. */
  knownEtag: string;
  wantsYaml: boolean;
  signal: AbortSignal;
}

async function send(response: Http2ServerResponse, answer: Answer, options: SendOptions): Promise<void> {
  switch (answer.kind) {
    case "text": {
      const { status, contentType, text, headers } = answer;
      const unchanged = headers?.["etag"] !== undefined && headers["etag"] === options.knownEtag;
      return end(response, unchanged ? 304 : status, { ...headers, "content-type": contentType }, text, options);
    }
    case "json": {
      const headers: Record<string, string | string[]> = {};
      if (answer.warnings.length > 0)
        headers["warning"] = answer.warnings.map((text) => `299 - ${JSON.stringify(text)}`);
      if (answer.status === 405) headers["allow"] = "GET, POST, PUT, PATCH, DELETE";
      const { contentType, text } = await encodeBody(answer, options.wantsYaml);
      return end(response, answer.status, { ...headers, "content-type": contentType }, text, options);
    }
    case "watch":
      response.writeHead(200, { "content-type": "application/json" });
      flushHeaders(response);
      for await (const event of answer.events) await write(response, lineOf(event), options.signal);
      response.end();
      return;
    case "stream":
      response.writeHead(200, { "content-type": answer.contentType });
      flushHeaders(response);
      for await (const chunk of answer.chunks) await write(response, chunk, options.signal);
      response.end();
  }
}

async function encodeBody(
  { body, contentType }: Extract<Answer, { kind: "json" }>,
  wantsYaml: boolean,
): Promise<{ contentType: string; text: string }> {
  if (!wantsYaml || contentType !== undefined)
    return { contentType: contentType ?? "application/json", text: JSON.stringify(body) };
  const { stringify } = await import("yaml");
  return { contentType: "application/yaml", text: stringify(body) };
}

function end(
  response: Http2ServerResponse,
  status: number,
  headers: Record<string, string | string[]>,
  text: string,
  { headOnly }: SendOptions,
): void {
  response.writeHead(status, { "cache-control": "no-cache, private", ...headers });
  if (headOnly || status === 304) response.end();
  else response.end(text);
}

/** A watch is open once its caller sees the head, long before the first event. */
function flushHeaders(response: Http2ServerResponse): void {
  (response as unknown as { flushHeaders?: () => void }).flushHeaders?.();
}

/** The text of objects many watches carry; an object seen in events never changes. */
const texts = new WeakMap<object, string>();

function lineOf({ type, object }: WatchEvent): string {
  let text = texts.get(object);
  if (text === undefined) {
    text = JSON.stringify(object);
    texts.set(object, text);
  }
  return `{"type":"${type}","object":${text}}\n`;
}

/** Waits while the client is not reading: what it does not take stays in the bounded buffer of its watch. */
async function write(response: Http2ServerResponse, chunk: string | Uint8Array, signal: AbortSignal): Promise<void> {
  if (signal.aborted || response.write(chunk as Uint8Array)) return;
  await new Promise<void>((resolve) => {
    const done = () => {
      response.off("drain", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    response.on("drain", done);
    signal.addEventListener("abort", done);
  });
}
