// Waiting for an abort, also one that came first.
import { expect, test } from "bun:test";
import { aborted } from "./abort.ts";

test("resolves when the signal aborts, and at once when it already has", async () => {
  const abort = new AbortController();
  let done = false;
  const waiting = aborted(abort.signal).then(() => {
    done = true;
  });
  await Promise.resolve();
  expect(done).toBe(false);
  abort.abort();
  await waiting;
  expect(done).toBe(true);
  await aborted(abort.signal);
});
