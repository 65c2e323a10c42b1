// What one HTTP/2 peer may do that costs us more than it: resets in no time, frames without content. Pure; Envoy's rules.

export interface Budget {
  /** Streams opened so far. */
  streams: number;
  /** Of those, reset within their first second. */
  prematureResets: number;
  /** Frames without content since the last one with some, either way, in this second. */
  nuisances: number;
  nuisancesSinceMs: number;
  dataFrames: number;
}
export const newBudget = (): Budget => ({
  streams: 0,
  prematureResets: 0,
  nuisances: 0,
  nuisancesSinceMs: 0,
  dataFrames: 0,
});

/** A stream reset before this age was opened to be reset (overload.premature_reset_min_stream_lifetime_seconds). */
const prematureMs = 1_000;
/** Judged by so many streams: half of them reset is too many (overload.premature_reset_total_stream_count). */
const resetsJudgedMin = 500;
/** PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA: so many within a second, without a head or a byte of body between them. */
export const nuisancesMax = 10_000;
const nuisancesPeriodMs = 1_000;

/** False: the connection has to end. */
export function spendReset(budget: Budget, ageMs: number): boolean {
  if (ageMs < prematureMs) budget.prematureResets++;
  return budget.prematureResets * 2 < Math.max(resetsJudgedMin, budget.streams);
}
/** `dataFrames`: sent so far. False: the connection has to end. */
export function spendNuisance(budget: Budget, dataFrames: number, nowMs: number): boolean {
  if (dataFrames !== budget.dataFrames || nowMs - budget.nuisancesSinceMs > nuisancesPeriodMs) {
    budget.dataFrames = dataFrames;
    budget.nuisancesSinceMs = nowMs;
    budget.nuisances = 0;
  }
  return ++budget.nuisances <= nuisancesMax;
}
