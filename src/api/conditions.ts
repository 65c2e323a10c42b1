// Status conditions: finding one and setting one without losing its transition time.

export interface Condition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
  lastTransitionTime?: string;
}

export function findCondition<T extends Condition>(conditions: readonly T[] | undefined, type: string): T | undefined {
  return conditions?.find((condition) => condition.type === type);
}

/** Whether the condition is there and "True". */
export function isConditionTrue(conditions: readonly Condition[] | undefined, type: string): boolean {
  return findCondition(conditions, type)?.status === "True";
}

/**
 * The list with `condition` in place of the one of its type (or appended). `lastTransitionTime` is `now` (RFC 3339) when the
 * status changed, else kept. Answers the same list when nothing changed.
 */
export function withCondition<T extends Condition>(
  conditions: readonly T[] | undefined,
  condition: T,
  now: string,
): readonly T[] {
  const list = conditions ?? [];
  const index = list.findIndex((present) => present.type === condition.type);
  const old = list[index];
  const lastTransitionTime = old?.status === condition.status ? (old.lastTransitionTime ?? now) : now;
  const next = { ...old, ...condition, lastTransitionTime } as T;
  if (old === undefined) return [...list, next];
  if (old.status === next.status && old.reason === next.reason && old.message === next.message) return list;
  return list.map((present, at) => (at === index ? next : present));
}
