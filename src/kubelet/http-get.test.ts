// HTTP and TCP probes over real sockets.

import { expect, test } from "bun:test";
import { realClock as clock } from "../kernel/clock.ts";
import { httpGet, tcpConnect } from "./http-get.ts";

test("an HTTP probe tells statuses, refusal and silence apart, in the words of Kubernetes", async () => {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/slow") return new Promise(() => {});
      if (pathname === "/agent")
        return new Response(null, { status: request.headers.get("user-agent") === "kube-probe/1.32" ? 204 : 400 });
      return new Response("x".repeat(200_000), { status: Number(pathname.slice(1)) });
    },
  });
  const get = (path: string, port = server.port!, timeoutMs = 1_000) =>
    httpGet(
      { scheme: "http", host: "127.0.0.1", port, path, headers: [{ name: "X-A", value: "b" }] },
      timeoutMs,
      clock,
    );
  expect(await get("/200")).toBe(200);
  expect(await get("/503")).toBe(503);
  expect(await get("/agent")).toBe(204);
  await expect(get("/slow", server.port!, 50)).rejects.toThrow("context deadline exceeded");
  await tcpConnect({ host: "127.0.0.1", port: server.port! }, 500, clock);
  const { port } = server;
  await server.stop(true);
  await expect(get("/200", port!)).rejects.toThrow("connection refused");
  await expect(tcpConnect({ host: "127.0.0.1", port: port! }, 500, clock)).rejects.toThrow("connection refused");
});
