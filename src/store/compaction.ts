// When to compact: revisions older than a while, sooner when there are too many, never the last few.

import type { Cancel, Clock } from "../kernel/clock.ts";
import type { Store } from "./types.ts";

export interface CompactionPolicy {
  /** A watch or page may continue from anything younger than this. */
  ageKeptMs: number;
  /** Kept whatever their age. */
  revisionsKeptMin: number;
  /** Never more than about this many are kept, whatever their age. */
  revisionsKeptMax: number;
  periodMs: number;
}

/** Kubernetes compacts every five minutes (kube-apiserver --etcd-compaction-interval). */
export const defaultCompaction: CompactionPolicy = {
  ageKeptMs: 5 * 60_000,
  revisionsKeptMin: 1000,
  revisionsKeptMax: 50_000,
  periodMs: 30_000,
};

/** What the newest revision was at some time. */
export interface RevisionMark {
  atMs: number;
  revision: number;
}

/** The revision to compact to, 0 for none. `marks` are ordered, oldest first. */
export function planCompaction(
  marks: readonly RevisionMark[],
  nowMs: number,
  revision: number,
  policy: CompactionPolicy,
): number {
  let target = revision - policy.revisionsKeptMax;
  for (const mark of marks) if (nowMs - mark.atMs >= policy.ageKeptMs) target = Math.max(target, mark.revision);
  return Math.max(0, Math.min(target, revision - policy.revisionsKeptMin));
}

/** Compacts `store` from now on by `policy`; the returned function stops it. */
export function startCompaction(store: Store, clock: Clock, policy: CompactionPolicy = defaultCompaction): Cancel {
  let marks: RevisionMark[] = [{ atMs: clock.now(), revision: store.revision }];
  return clock.every(policy.periodMs, () => {
    const nowMs = clock.now();
    const target = planCompaction(marks, nowMs, store.revision, policy);
    if (target > store.compactedRevision) store.compact(target);
    marks = marks.filter((mark) => mark.revision > target);
    marks.push({ atMs: nowMs, revision: store.revision });
  });
}
