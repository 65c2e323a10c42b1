// Runs one probe of one container again and again until stopped; the schedule and the meaning of results are in probe-schedule.ts.

import type { Cancel } from "../kernel/clock.ts";
import { type HandlerTarget, runProbe } from "./handlers.ts";
import {
  newProbeState,
  onProbeResult,
  type ProbeKind,
  type ProbeSpec,
  type ProbeTiming,
  timingOf,
} from "./probe-schedule.ts";

export interface ProberReports {
  /** The thresholds were reached; called for every probe after that, too. */
  verdict(result: "success" | "failure", message: string): void;
  /** Every single result. */
  result(ok: boolean): void;
  /** One failed probe that users are told of. */
  unhealthy(message: string): void;
}

/** The first readiness or startup probe runs after initialDelaySeconds, at once when that is 0. */
export function startProber(kind: ProbeKind, probe: ProbeSpec, target: HandlerTarget, reports: ProberReports): Cancel {
  const { clock } = target;
  const timing: ProbeTiming = timingOf(probe);
  const cheap = probe.exec === undefined;
  let state = newProbeState(kind, clock.now(), timing);
  let stopped = false;
  let cancel: Cancel = () => {};
  const schedule = (atMs: number) => {
    cancel = clock.after(Math.max(0, atMs - clock.now()), () => void once());
  };
  const once = async () => {
    const result = await runProbe(probe, target, timing.timeoutMs);
    if (stopped) return;
    reports.result(result.ok);
    const outcome = onProbeResult(kind, timing, state, result.ok, cheap, clock.now());
    state = outcome.state;
    if (outcome.counted) reports.unhealthy(result.message);
    if (outcome.verdict !== undefined) reports.verdict(outcome.verdict, result.message);
    if (!stopped && !(kind === "startup" && outcome.verdict !== undefined)) schedule(outcome.nextAtMs);
  };
  if (state.firstAtMs <= clock.now()) void once();
  else schedule(state.firstAtMs);
  return () => {
    stopped = true;
    cancel();
  };
}
