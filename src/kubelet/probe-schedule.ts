// When a probe runs next and what its results mean (kubelet prober/worker.go), plus fast retries while a container comes up. Pure.

import type { Pod } from "../api/types.ts";

export type ProbeKind = "startup" | "readiness" | "liveness";
export type ProbeSpec = NonNullable<NonNullable<Pod["spec"]>["containers"][number]["readinessProbe"]>;

export interface ProbeTiming {
  initialDelayMs: number;
  periodMs: number;
  timeoutMs: number;
  successThreshold: number;
  failureThreshold: number;
}

export function timingOf(probe: ProbeSpec): ProbeTiming {
  return {
    initialDelayMs: (probe.initialDelaySeconds ?? 0) * 1000,
    periodMs: (probe.periodSeconds ?? 10) * 1000,
    timeoutMs: (probe.timeoutSeconds ?? 1) * 1000,
    successThreshold: probe.successThreshold ?? 1,
    failureThreshold: probe.failureThreshold ?? 3,
  };
}

export interface ProbeState {
  readonly firstAtMs: number;
  /** Failures before this moment are retries of a container coming up: they do not count. */
  readonly countFromMs: number;
  readonly successes: number;
  readonly failures: number;
  readonly everSucceeded: boolean;
}

/** What a container needs to come up is no failure: the first that counts is this long after its start, as in practice on a kubelet. */
const settleMs = 1_000;

/** A liveness probe begins when failures count; the others at once, so that readiness is seen as soon as it is there. */
export function newProbeState(kind: ProbeKind, nowMs: number, timing: ProbeTiming): ProbeState {
  const countFromMs = nowMs + Math.max(timing.initialDelayMs, Math.min(timing.periodMs, settleMs));
  const firstAtMs = kind === "liveness" ? countFromMs : nowMs + timing.initialDelayMs;
  return { firstAtMs, countFromMs, successes: 0, failures: 0, everSucceeded: false };
}

export interface ProbeOutcome {
  state: ProbeState;
  /** The thresholds were reached; undefined: nothing follows yet. */
  verdict: "success" | "failure" | undefined;
  /** A failure worth an Unhealthy event. */
  counted: boolean;
  nextAtMs: number;
}

/**
 * Before its first success a readiness or startup probe is retried fast: start-up time is a feature. Failures count only at the
 * configured period, so failureThreshold × periodSeconds stays the time a container has to come up.
 */
export function onProbeResult(
  kind: ProbeKind,
  timing: ProbeTiming,
  state: ProbeState,
  ok: boolean,
  cheap: boolean,
  nowMs: number,
): ProbeOutcome {
  if (ok) {
    const successes = state.successes + 1;
    return {
      state: { ...state, successes, failures: 0, everSucceeded: true, countFromMs: nowMs },
      verdict: successes >= timing.successThreshold ? "success" : undefined,
      counted: false,
      nextAtMs: nowMs + timing.periodMs,
    };
  }
  const comingUp = kind !== "liveness" && !state.everSucceeded;
  const counted = !comingUp || nowMs >= state.countFromMs;
  const failures = state.failures + (counted ? 1 : 0);
  const countFromMs = counted ? nowMs + timing.periodMs : state.countFromMs;
  const retryMs = comingUp ? Math.min(timing.periodMs, retryAfterMs(nowMs - state.firstAtMs, cheap)) : timing.periodMs;
  return {
    state: { ...state, successes: 0, failures, countFromMs },
    verdict: counted && failures >= timing.failureThreshold ? "failure" : undefined,
    counted,
    nextAtMs: nowMs + retryMs,
  };
}

/** A connection is cheap to try; a command costs a process. */
function retryAfterMs(elapsedMs: number, cheap: boolean): number {
  if (elapsedMs < 1_000) return cheap ? 25 : 100;
  if (elapsedMs < 10_000) return cheap ? 100 : 500;
  return 1_000;
}
