// What proxy-status makes of the state of a stream.
import { expect, test } from "bun:test";
import type { TypeStatus } from "../xds/push.ts";
import type { StreamStatus } from "../xds/server.ts";
import { typeUrls } from "../xds/types.ts";
import { detailLines, findProxy, statusLines, syncState } from "./proxy-status.ts";

const acked = { kind: "acked", version: "1", nonce: "1", ackedAtMs: 1_000 } as const;
const sent = { kind: "sent", version: "2", nonce: "2", sentAtMs: 5_000, accepted: "1" } as const;
const nacked = {
  kind: "nacked",
  version: "2",
  nonce: "2",
  accepted: "1",
  reason: "b: is bad",
  nackedAtMs: 2_000,
} as const;
const type = (more: Partial<TypeStatus> = {}): TypeStatus => ({
  typeUrl: typeUrls.cluster,
  state: acked,
  names: undefined,
  resources: 3,
  current: true,
  unanswered: [],
  unsent: [],
  refused: {},
  ...more,
});
const stream = (nodeId: string, ...types: TypeStatus[]): StreamStatus => ({
  nodeId,
  peer: "172.20.0.11:5000",
  connectedAtMs: 0,
  variant: "delta",
  types,
});
const pod = "sidecar~10.244.1.2~web-1.video~video.svc.cluster.local";

test("a type is in step, behind, refused or not asked for", () => {
  const cases: [TypeStatus | undefined, string][] = [
    [undefined, "NOT SENT"],
    [type({ state: { kind: "waiting" } }), "NOT SENT"],
    [type(), "SYNCED"],
    [type({ current: false }), "STALE"],
    [type({ state: sent }), "STALE"],
    [type({ state: nacked }), "NACK"],
    // A later response was taken; the refused resource is refused all the same.
    [type({ refused: { b: "b: is bad" } }), "NACK"],
  ];
  for (const [status, want] of cases) expect(syncState(status)).toBe(want as ReturnType<typeof syncState>);
});

test("the table has a row for each proxy, with the age of the last change, and the reasons below", () => {
  const lines = statusLines(
    [
      stream(pod, type({ state: nacked, refused: { b: "b: is bad" } })),
      stream("node~172.20.0.11~worker1~cluster.local", type()),
    ],
    62_000,
  );
  expect(lines.map((line) => Bun.stripANSI(line).replaceAll(/ {2,}/g, " | "))).toEqual([
    "NAME | CLUSTER | CDS | LDS | EDS | RDS | SDS | LAST CHANGE",
    "web-1.video | Kubernetes | NACK | NOT SENT | NOT SENT | NOT SENT | NOT SENT | 60s",
    "worker1 (node) | Kubernetes | SYNCED | NOT SENT | NOT SENT | NOT SENT | NOT SENT | 61s",
    "web-1.video: Cluster refused: b: is bad",
  ]);
});

test("the details name what was sent and not taken, and what was not sent", () => {
  const lines = detailLines(
    stream(pod, type({ state: sent, current: false, unanswered: ["a"], unsent: ["c"], refused: { b: "b: is bad" } })),
    62_000,
  );
  // Colours are there where CI says that it shows them.
  const text = Bun.stripANSI(lines.join("\n"));
  expect(text).toContain("Cluster sent, not answered:\n  a");
  expect(text).toContain("Cluster changed, not sent yet:\n  c");
  expect(text).toContain("Cluster sent, refused:\n  b  b: is bad");
  expect(detailLines(stream(pod, type()), 62_000).join("\n")).toContain("there is nothing else to send");
});

test("a proxy is found by every way its pod is written", () => {
  const all = [stream(pod), stream("node~172.20.0.11~worker1~cluster.local")];
  for (const name of ["web-1", "web-1.video", "video/web-1", pod])
    expect(findProxy(all, name).map(({ nodeId }) => nodeId)).toEqual([pod]);
  expect(findProxy(all, "worker1")).toEqual([all[1]!]);
  expect(findProxy(all, "web")).toEqual([]);
});
