// Addresses of a node's /24: stable, not reused at once, finite.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { AddressPool } from "./addresses.ts";

const folder = mkdtempSync("/tmp/meshbed-parts-test-");
afterAll(() => rmSync(folder, { recursive: true }));

test("an address stays with its pod over a restart, is not reused at once, and the supply has an end", () => {
  const path = join(folder, "addresses.json");
  const pool = new AddressPool("10.244.1", path);
  expect([pool.assign("a"), pool.assign("b"), pool.assign("a")]).toEqual(["10.244.1.2", "10.244.1.3", "10.244.1.2"]);
  pool.release("b");
  expect(pool.assign("c")).toBe("10.244.1.4");
  const again = new AddressPool("10.244.1", path);
  expect([again.assign("c"), again.assign("a")]).toEqual(["10.244.1.4", "10.244.1.2"]);
  again.retain(new Set(["a"]));
  expect(again.assign("d", "10.244.1.4")).toBe("10.244.1.4");
  for (let i = 0; i < 236; i++) again.assign(`x${i}`);
  expect(() => again.assign("one too many")).toThrow("no free address");
  expect(again.assign("gateway", undefined, true)).toBe("10.244.1.240");
});
