// Orders and questions from the command line to the processes inside the sandbox: HTTP on socket files of the state folder.

import { chmodSync, rmSync } from "node:fs";
import { MeshbedError, messageOf } from "../kernel/errors.ts";
import type { StreamStatus } from "../xds/server.ts";
import type { Replacement } from "./children.ts";
import { controlSocket, meshSocket } from "./config.ts";

export interface Orders {
  /** What `restart` without a name means. */
  readonly replaceable: string[];
  replace(component: string): Promise<Replacement>;
}

interface Refusal {
  code: string;
  message: string;
  fix?: string | undefined;
}

const restartPath = "/restart/";
const proxyStatusPath = "/proxy-status";
/** A restart may wait 20 s for its successor. */
const answerMaxS = 60;

/** With the state folder as working folder. Ends with the process. */
export function serveOrders(orders: Orders): void {
  rmSync(controlSocket, { force: true });
  Bun.serve({
    unix: controlSocket,
    async fetch(request, server) {
      server.timeout(request, answerMaxS);
      const { pathname } = new URL(request.url);
      if (request.method === "GET" && pathname === restartPath) return Response.json(orders.replaceable);
      if (request.method !== "POST" || !pathname.startsWith(restartPath))
        return Response.json({ code: "ORDER_UNKNOWN", message: `no such order: ${pathname}` }, { status: 404 });
      try {
        return Response.json(await orders.replace(decodeURIComponent(pathname.slice(restartPath.length))));
      } catch (error) {
        const { code = "RESTART_FAILED", fix } = error as { code?: string; fix?: string };
        return Response.json({ code, message: messageOf(error), fix } satisfies Refusal, { status: 409 });
      }
    },
  });
  // Whoever may stop the testbed may restart its parts, and nobody else.
  chmodSync(controlSocket, 0o600);
}

/** What the control plane answers about its proxies. With the state folder as working folder. Returns stop. */
export function serveProxyStatus(status: () => StreamStatus[]): () => void {
  rmSync(meshSocket, { force: true });
  const server = Bun.serve({
    unix: meshSocket,
    fetch: (request) =>
      new URL(request.url).pathname === proxyStatusPath
        ? Response.json(status())
        : Response.json({ code: "ORDER_UNKNOWN", message: "no such question" } satisfies Refusal, { status: 404 }),
  });
  chmodSync(meshSocket, 0o600);
  return () => void server.stop(true);
}

/** With the state folder as working folder: the path of a socket file may not be long. */
async function order<T>(method: string, path: string, unix = controlSocket): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`http://meshbed${path}`, { method, unix });
  } catch (error) {
    throw new MeshbedError("NOT_REACHED", `the testbed does not take orders: ${messageOf(error)}`, {
      fix: "see `meshbed status`; one that was started by an older meshbed must be started anew",
    });
  }
  const body = await response.json();
  if (response.ok) return body as T;
  const { code, message, fix } = body as Refusal;
  throw new MeshbedError(code, message, fix === undefined ? {} : { fix });
}

export const replaceableComponents = (): Promise<string[]> => order("GET", restartPath);

/** Resolves when the successor serves; the old process drains after that. */
export const replaceComponent = (component: string): Promise<Replacement> =>
  order("POST", restartPath + encodeURIComponent(component));

/** What each connected proxy was sent and has answered. */
export const readProxyStatus = (): Promise<StreamStatus[]> => order("GET", proxyStatusPath, meshSocket);
