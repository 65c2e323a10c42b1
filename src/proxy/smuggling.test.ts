// Hostile pipelines through the whole proxy to a real server (Node, strict): it sees no request that the proxy did not mean to send.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { realClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import { ChunkedScanner, requestFraming } from "../wire/http1_body.ts";
import { Head, scanRequestHead } from "../wire/http1_head.ts";
import { requestPipeline } from "../wire/mutants.ts";
import { type NodePeer, seenIn, startNodePeer } from "../wire/node_peer.ts";
import {
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  listener,
  prefix,
  raw,
  routes,
  startFixture,
  toCluster,
} from "./fixture.ts";
import { RequestView } from "./http/request.ts";

/** A failure names its seed; MESHBED_FUZZ_SEED=n runs that one alone, MESHBED_FUZZ_FROM=n starts there. */
const onlySeed = process.env["MESHBED_FUZZ_SEED"];
const firstSeed = Number(onlySeed ?? process.env["MESHBED_FUZZ_FROM"] ?? 0);
const budgetMs = 3_000;
const atOnce = 16;
/** For an answer that does not come, as the request was cut short. */
const patienceMs = 250;

const node = Bun.which("node");
if (node === null) console.warn("skipped: the smuggling test needs `node` on the PATH");

interface Meant {
  start: string;
  host: string;
  body: string;
}

/** The requests the proxy should take `input` for; it refuses what comes after them. */
function meant(input: Buffer): Meant[] {
  const requests: Meant[] = [];
  for (let at = 0; at < input.length; ) {
    const head = new Head();
    const view = new RequestView();
    const end = scanRequestHead(head, input, at, input.length);
    if (end <= 0 || !view.read(head, "http") || view.isConnect || head.upgrade) break;
    const framing = requestFraming(head);
    let payload = Buffer.alloc(0);
    at = end;
    if (framing === "length") {
      at = end + head.contentLength;
      if (at > input.length) break;
      payload = Buffer.from(input.subarray(end, at));
    } else if (framing === "chunked") {
      const scanner = new ChunkedScanner();
      at = scanner.scan(input, end, input.length, false);
      if (!scanner.done) break;
      const { ranges } = scanner;
      const parts = [];
      for (let i = 0; i < ranges.length; i += 2) parts.push(input.subarray(ranges[i]!, ranges[i + 1]!));
      payload = Buffer.concat(parts);
    }
    requests.push({ start: `${view.method} ${view.path}`, host: view.authority, body: payload.toString("base64") });
    if (!head.keepAlive) break;
  }
  return requests;
}

describe.skipIf(node === null)("request smuggling", () => {
  let peer: NodePeer;
  let proxy: FixtureProxy;
  const port = freePort();

  beforeAll(async () => {
    peer = await startNodePeer(node!);
    proxy = await startFixture({
      listeners: [listener("127.0.0.1", port, [httpChain("main")])],
      clusters: [cluster("node", [`127.0.0.1:${peer.port}`])],
      routes: [routes("main", [{ match: prefix("/"), action: toCluster("node") }])],
    });
  });
  afterAll(async () => {
    await proxy.close();
    await peer.close();
  });

  test("what a server reads is what the proxy meant, request by request and in number", async () => {
    const before = await peer.served();
    let answered = 0;
    let useful = 0;
    let cutShort = 0;
    let next = firstSeed;
    const deadlineMs = realClock.monotonicMs() + budgetMs;
    const worker = async (): Promise<void> => {
      while (onlySeed === undefined ? realClock.monotonicMs() < deadlineMs : next === firstSeed) {
        const seed = next++;
        const input = Buffer.from(
          `${requestPipeline(seededRandom(seed))}GET /last HTTP/1.1\r\nhost: l\r\nconnection: close\r\n\r\n`,
          "latin1",
        );
        // Methods that Node does not know it answers with 400 and nothing seen.
        const want = meant(input).filter(({ start }) => peer.methods.has(start.split(" ", 1)[0]!));
        const isEnough = (text: string): boolean => (text.match(/x-seen: /g)?.length ?? 0) > want.length;
        const { text, closed } = await raw(port, [input], isEnough, patienceMs);
        if (!closed) cutShort++;
        const seen = seenIn(text).map(({ start, fields, body }) => ({
          start,
          host: fields
            .filter((field) => field.startsWith("host: "))
            .map((field) => field.slice(6))
            .join(" and "),
          body,
        }));
        const at = `seed ${seed}, ${JSON.stringify(input.latin1Slice(0, input.length))}`;
        expect({ at, seen }).toEqual({ at, seen: want.slice(0, seen.length) });
        if (closed && !text.includes("HTTP/1.1 400") && !text.includes("HTTP/1.1 50"))
          expect({ at, count: seen.length }).toEqual({ at, count: want.length });
        answered += seen.length;
        if (want.length > 1) useful++;
      }
    };
    await Promise.all(Array.from({ length: onlySeed === undefined ? atOnce : 1 }, worker));
    // No request reached the server that nobody was answered for; only of those cut short an answer may have been missed.
    const served = (await peer.served()) - before;
    expect(served).toBeGreaterThanOrEqual(answered);
    expect(served - answered).toBeLessThanOrEqual(cutShort);
    if (onlySeed === undefined)
      expect({ useful, enough: useful * 6 > next - firstSeed }).toEqual({ useful, enough: true });
  }, 15_000);
});
