// Trusted client addresses as a table.
import { expect, test } from "bun:test";
import { trustedAddress } from "./forwarded.ts";
import type { RequestView } from "./request.ts";

const cases: [string | undefined, boolean, number, string][] = [
  // At the edge.
  [undefined, true, 0, "peer"],
  ["1.1.1.1", true, 0, "peer"],
  ["1.1.1.1, 2.2.2.2", true, 1, "2.2.2.2"],
  ["1.1.1.1, 2.2.2.2", true, 2, "1.1.1.1"],
  ["1.1.1.1, 2.2.2.2", true, 3, "peer"],
  // In the mesh.
  [undefined, false, 0, "peer"],
  ["1.1.1.1, 2.2.2.2", false, 0, "2.2.2.2"],
  ["1.1.1.1,2.2.2.2", false, 1, "1.1.1.1"],
  ["1.1.1.1", false, 1, "peer"],
  ["2001:db8::1", false, 0, "2001:db8::1"],
  ["[2001:db8::1]:80", false, 0, "2001:db8::1"],
  ["1.1.1.1:4711", false, 0, "1.1.1.1"],
  ["unknown", false, 0, "peer"],
  ["", false, 0, "peer"],
];
for (const [field, edge, hops, want] of cases)
  test(`${JSON.stringify(field)} ${edge ? "at the edge" : "in the mesh"} with ${hops} trusted proxies is ${want}`, () => {
    const request = { header: () => field } as unknown as RequestView;
    expect(trustedAddress(request, "peer", edge, hops)).toBe(want);
  });
