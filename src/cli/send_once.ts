// Sends one request as it is and tells what came back. Run by itself inside a pod's network: bun send_once.ts '<json>'.

import { request as plainRequest } from "node:http";
import { request as tlsRequest } from "node:https";

export interface OneRequest {
  /** Dialled, whatever the Host field says. */
  address: string;
  port: number;
  secure: boolean;
  /** SNI. */
  serverName: string;
  method: string;
  /** As it is: not normalised. */
  path: string;
  headers: readonly (readonly [string, string])[];
}

export interface OneAnswer {
  /** 0: the connection was refused, or closed without an answer. */
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: string;
  error: string;
  durationMs: number;
}

const timeoutMs = 60_000;
const bodyCharsMax = 2_000;

export function sendOnce(one: OneRequest): Promise<OneAnswer> {
  const startedMs = performance.now();
  const { promise, resolve } = Promise.withResolvers<OneAnswer>();
  const done = (answer: Partial<OneAnswer>): void =>
    resolve({ status: 0, headers: {}, body: "", error: "", durationMs: performance.now() - startedMs, ...answer });
  // One value as it is: node refuses a list for Host.
  const fields = Object.fromEntries(
    [...Map.groupBy(one.headers, ([name]) => name)].map(([name, list]) => {
      const values = list.map(([, value]) => value);
      return [name, values.length === 1 ? values[0]! : values] as const;
    }),
  );
  const options = {
    host: one.address,
    port: one.port,
    method: one.method,
    path: one.path,
    headers: fields,
    agent: false as const,
    timeout: timeoutMs,
  };
  const sent = one.secure
    ? tlsRequest({ ...options, servername: one.serverName, rejectUnauthorized: false })
    : plainRequest(options);
  sent.on("response", (response) => {
    let body = "";
    response.on("data", (chunk: Buffer) => {
      if (body.length < bodyCharsMax) body += chunk.toString("latin1");
    });
    response.on("end", () => done({ status: response.statusCode ?? 0, headers: response.headers, body }));
    response.on("error", (error) => done({ error: error.message }));
  });
  sent.on("timeout", () => sent.destroy(new Error(`no answer within ${timeoutMs} ms`)));
  sent.on("error", (error) => done({ error: error.message }));
  sent.end();
  return promise;
}

if (import.meta.main) console.log(JSON.stringify(await sendOnce(JSON.parse(process.argv[2]!) as OneRequest)));
