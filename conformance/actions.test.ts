// The rules of examples/istio/actions.yaml: headers, rewrites, redirects, direct answers and mirrors, as client and server see them.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { came, type EchoBed, startEcho, tally } from "./echo.ts";
import { until } from "./testbed.ts";

let bed: EchoBed;
beforeAll(async () => {
  bed = await startEcho();
  await bed.example("actions.yaml");
}, 90_000);
afterAll(() => bed?.down());

test("headers are set, added and removed both ways, for the rule and for its destination", async () => {
  const sent = { "x-set": "old", "x-added": "first", "x-removed": "gone", "x-kept": "kept" };
  const answer = await bed.get("headers.test", "/", { headers: sent });
  const { headers } = came(answer);
  expect(headers).toMatchObject({ "x-set": "new", "x-added": "first, more", "x-kept": "kept", "x-destination": "v2" });
  expect(headers["x-removed"]).toBeUndefined();
  expect(answer.headers["x-answer"]).toBe("set");
  expect(answer.headers["x-shared-out"]).toBe("v2");
  expect(answer.headers["x-pod"]).toMatch(/^server-v2-.*, added$/);
  expect(answer.headers["x-version"]).toBeUndefined();
});

test("paths and authorities are rewritten; the original path is told to the server", async () => {
  const at = async (path: string) => {
    const { path: reached, host, headers } = came(await bed.get("rewrite.test", path));
    return [reached, host, headers["x-envoy-original-path"]];
  };
  expect(await at("/old/page?q=1")).toEqual(["/new/page?q=1", "other.test", "/old/page?q=1"]);
  expect(await at("/exact?q=1")).toEqual(["/replaced?q=1", "rewrite.test", "/exact?q=1"]);
  expect(await at("/whole/thing?q=1")).toEqual(["/replaced?q=1", "rewrite.test", "/whole/thing?q=1"]);
  expect(await at("/users/jane/books/7")).toEqual(["/books/7/of/jane", "rewrite.test", "/users/jane/books/7"]);
  expect(await at("/host")).toEqual(["/host", "set.test", undefined]);
});

test("redirects change what they name and keep the rest", async () => {
  const at = async (path: string, host = "redirect.test") => {
    const { status, headers } = await bed.get(host, path);
    return `${status} ${headers["location"]}`;
  };
  expect(await at("/all?q=1")).toBe("308 https://other.test:8443/there?q=1");
  expect(await at("/uri?q=1")).toBe("301 http://redirect.test/there?q=1");
  expect(await at("/uri", "redirect.test:8080")).toBe("301 http://redirect.test:8080/there");
  expect(await at("/authority")).toBe("302 http://other.test/authority");
  expect(await at("/scheme")).toBe("303 https://redirect.test/scheme");
  expect(await at("/port")).toBe("307 http://redirect.test:8080/port");
  // A scheme's own port is not said, so that the port the client wrote stays.
  expect(await at("/request-port", "redirect.test:8080")).toBe("301 http://redirect.test:8080/there");
  expect(await at("/protocol-port", "redirect.test:8080")).toBe("301 http://redirect.test:8080/there");
});

test("a rule may answer by itself, with text, bytes or nothing", async () => {
  const text = await bed.get("direct.test", "/text");
  expect([text.status, text.body, text.headers["retry-after"]]).toEqual([503, "closed for today", "60"]);
  const bytes = await bed.get("direct.test", "/bytes");
  expect([bytes.status, bytes.body]).toEqual([200, "hello"]);
  const nothing = await bed.get("direct.test", "/");
  expect([nothing.status, nothing.body]).toEqual([204, ""]);
});

test("a mirror gets copies for a host with -shadow; a percentage is a share", async () => {
  const seen = async (key: string) =>
    JSON.parse((await bed.get("mirror.test", `/seen?key=${key}`)).body) as { times: number; host: string };
  const all = await bed.many(50, 8, () => bed.get("mirror.test", "/?key=all"));
  expect(tally(all, ({ status, headers }) => `${status} ${headers["x-version"]}`)).toEqual({ "200 v1": 50 });
  await until("50 copies came", 3_000, async () => (await seen("all")).times === 50);
  expect((await seen("all")).host).toBe("mirror.test-shadow");

  const requests = 400;
  await bed.many(requests, 16, () => bed.get("mirror.test", "/half?key=half"));
  await until("copies are through", 3_000, async () => {
    const { times } = await seen("half");
    await Bun.sleep(100);
    return times > 0 && times === (await seen("half")).times;
  });
  const { times } = await seen("half");
  console.log(`  50 % of ${requests} requests mirrored: ${times}`);
  expect(Math.abs(times - requests / 2)).toBeLessThanOrEqual(4 * Math.sqrt(requests / 4));
});
