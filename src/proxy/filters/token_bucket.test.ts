// The token bucket as a table of calls in time.
import { describe, expect, test } from "bun:test";
import { type BucketState, take } from "./token_bucket.ts";

describe("a bucket of 3 that gets 2 every 100 ms", () => {
  const bucket = { tokensMax: 3, tokensPerFill: 2, intervalMs: 100 };
  const cases: [string, number[], string][] = [
    ["is full at first", [0, 0, 0, 0], "yyyn"],
    ["is refilled at whole intervals only", [0, 0, 0, 99, 100, 150, 199, 200], "yyynyyny"],
    ["does not grow above its size", [0, 10_000, 10_000, 10_000, 10_000], "yyyyn"],
    ["keeps its rhythm through a long pause", [0, 0, 0, 1_050, 1_050, 1_050, 1_099, 1_100], "yyyyyyny"],
  ];
  for (const [name, timesMs, want] of cases)
    test(name, () => {
      let state: BucketState | undefined;
      let got = "";
      for (const nowMs of timesMs) {
        const taken = take(bucket, state, nowMs);
        state = taken.state;
        got += taken.allowed ? "y" : "n";
      }
      expect(got).toBe(want);
    });
});
