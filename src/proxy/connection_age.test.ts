// How old kept connections to servers become, and what keeps them alive.
import { afterEach, expect, test } from "bun:test";
import {
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  listener,
  milliseconds,
  prefix,
  routes,
  startFixture,
  toCluster,
} from "./fixture.ts";

let proxy: FixtureProxy | undefined;
afterEach(() => proxy?.close());

/** Different connections that requests of one client came by, sent one after another for as long as it takes. */
async function connectionsWithin(forMs: number, more: Parameters<typeof cluster>[2]): Promise<number> {
  const seen = new Set<number>();
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request, self) {
      seen.add(self.requestIP(request)!.port);
      return new Response("ok");
    },
  });
  const port = freePort();
  proxy = await startFixture({
    listeners: [listener("127.0.0.1", port, [httpChain("r")])],
    clusters: [cluster("a", [`127.0.0.1:${server.port}`], more)],
    routes: [routes("r", [{ match: prefix("/"), action: toCluster("a") }])],
  });
  const untilMs = performance.now() + forMs;
  while (performance.now() < untilMs) {
    expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toBe("ok");
    await Bun.sleep(10);
  }
  await server.stop(true);
  return seen.size;
}

test("a connection older than max_connection_duration is not used for another request, and none fails", async () => {
  const aged = { commonHttpProtocolOptions: { maxConnectionDuration: milliseconds(200) } };
  expect(await connectionsWithin(1_800, aged)).toBeGreaterThanOrEqual(2);
}, 10_000);

test("without it one connection serves all requests, with the kernel's probes as well", async () => {
  const probed = { upstreamConnectionOptions: { tcpKeepalive: { keepaliveTime: 1 } } };
  expect(await connectionsWithin(1_300, probed)).toBe(1);
}, 10_000);
