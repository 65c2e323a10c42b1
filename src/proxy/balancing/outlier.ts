// Outlier detection: which hosts are ejected for how they answer, and when they come back. Envoy's state machine; time and chance are passed in.

import type { Clock } from "../../kernel/clock.ts";
import type { Random } from "../../kernel/random.ts";

/** Percentages of being ejected once detected: Envoy's enforcing_… fields. */
export interface OutlierConfig {
  intervalMs: number;
  baseEjectionMs: number;
  maxEjectionMs: number;
  ejectionJitterMaxMs: number;
  ejectionPercentMax: number;
  alwaysEjectOne: boolean;
  /** Failures to connect and timeouts are counted apart from bad answers. */
  splitLocalOrigin: boolean;
  /** A passed active health check brings an ejected host back. */
  activeCheckUnejects: boolean;
  consecutive5xx: number;
  consecutiveGatewayFailure: number;
  consecutiveLocalOriginFailure: number;
  successRate: { hostsMin: number; requestsMin: number; stdevFactor: number };
  failurePercentage: { hostsMin: number; requestsMin: number; thresholdPercent: number };
  enforcingPercent: Readonly<Record<EjectionReason, number>>;
}

export const ejectionReasons = [
  "consecutive_5xx",
  "consecutive_gateway_failure",
  "consecutive_local_origin_failure",
  "success_rate",
  "local_origin_success_rate",
  "failure_percentage",
  "local_origin_failure_percentage",
] as const;
export type EjectionReason = (typeof ejectionReasons)[number];

/** What a try came to without an answer's status. `final`: a TCP connection stands, and nothing more will be said of it. */
export type LocalResult = "connected" | "final" | "connect-failed" | "timeout";

/** Answers of the current interval. */
interface Tally {
  total: number;
  success: number;
}

/** One host as its answers show it. The data path calls `status` and `local`. */
export class HostMonitor {
  readonly #detector: OutlierDetector;
  ejected = false;
  ejections = 0;
  ejectedAtMs = 0;
  /** The ejection lasts this many times the base time. */
  backoff = 0;
  jitterMs = 0;
  returnedAtMs: number | undefined;
  consecutive5xx = 0;
  consecutiveGateway = 0;
  consecutiveLocal = 0;
  readonly external: Tally = { total: 0, success: 0 };
  readonly localOrigin: Tally = { total: 0, success: 0 };
  /** Of the last interval, in percent; undefined with too few requests. */
  successRatePercent: number | undefined;

  constructor(detector: OutlierDetector) {
    this.#detector = detector;
  }

  /** An answer's head has come (or would have, from a host that cannot be told from one that failed). */
  status(code: number): void {
    const { config } = this.#detector;
    this.external.total++;
    if (code < 500 || code > 599) {
      this.external.success++;
      this.consecutive5xx = 0;
      this.consecutiveGateway = 0;
      return;
    }
    if (code >= 502 && code <= 504) {
      if (++this.consecutiveGateway === config.consecutiveGatewayFailure) {
        this.#detector.detected(this, "consecutive_gateway_failure");
        this.consecutiveGateway = 0;
      }
    } else this.consecutiveGateway = 0;
    if (++this.consecutive5xx === config.consecutive5xx) {
      this.#detector.detected(this, "consecutive_5xx");
      this.consecutive5xx = 0;
    }
  }

  local(result: LocalResult): void {
    const { config } = this.#detector;
    if (!config.splitLocalOrigin) {
      if (result === "final") this.status(200);
      else if (result === "timeout") this.status(504);
      else if (result === "connect-failed") this.status(503);
      return;
    }
    this.localOrigin.total++;
    if (result === "connected" || result === "final") {
      this.localOrigin.success++;
      this.consecutiveLocal = 0;
    } else if (++this.consecutiveLocal === config.consecutiveLocalOriginFailure) {
      this.#detector.detected(this, "consecutive_local_origin_failure");
      this.consecutiveLocal = 0;
    }
  }

  /** A passed active health check speaks for it. */
  checkPassed(): void {
    if (this.ejected && this.#detector.config.activeCheckUnejects) this.#detector.uneject(this);
  }

  clearCounts(): void {
    this.consecutive5xx = 0;
    this.consecutiveGateway = 0;
    this.consecutiveLocal = 0;
  }
}

export class OutlierDetector {
  readonly config: OutlierConfig;
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #random: Random;
  readonly #onChange: () => void;
  readonly hosts = new Set<HostMonitor>();
  ejectedCount = 0;
  /** Not ejected because ejectionPercentMax was reached. */
  overflows = 0;
  readonly detectedCount = counts();
  readonly enforcedCount = counts();

  /** `onChange`: a host was ejected or came back. */
  constructor(config: OutlierConfig, clock: Pick<Clock, "monotonicMs">, random: Random, onChange: () => void) {
    this.config = config;
    this.#clock = clock;
    this.#random = random;
    this.#onChange = onChange;
  }

  add(): HostMonitor {
    const host = new HostMonitor(this);
    this.hosts.add(host);
    return host;
  }
  remove(host: HostMonitor): void {
    if (this.hosts.delete(host) && host.ejected) this.ejectedCount--;
  }

  detected(host: HostMonitor, reason: EjectionReason): void {
    if (host.ejected || !this.hosts.has(host)) return;
    this.detectedCount[reason]++;
    const percent = (100 * (this.ejectedCount + 1)) / this.hosts.size;
    const allowed =
      percent <= this.config.ejectionPercentMax || (this.config.alwaysEjectOne && this.ejectedCount === 0);
    if (!allowed) this.overflows++;
    else if (this.#random.next() * 100 < this.config.enforcingPercent[reason]) this.#eject(host, reason);
  }

  // ---- in service → ejected → in service ----

  #eject(host: HostMonitor, reason: EjectionReason): void {
    const { baseEjectionMs, maxEjectionMs, ejectionJitterMaxMs } = this.config;
    host.ejected = true;
    host.ejections++;
    host.ejectedAtMs = this.#clock.monotonicMs();
    host.jitterMs = ejectionJitterMaxMs > 0 ? this.#random.below(ejectionJitterMaxMs + 1) : 0;
    if (host.backoff * baseEjectionMs < maxEjectionMs + baseEjectionMs) host.backoff++;
    this.ejectedCount++;
    this.enforcedCount[reason]++;
    this.#onChange();
  }

  uneject(host: HostMonitor): void {
    host.ejected = false;
    host.returnedAtMs = this.#clock.monotonicMs();
    host.clearCounts();
    this.ejectedCount--;
    this.#onChange();
  }

  /** Once per interval: returns hosts whose time is up, then looks at the interval's success rates. */
  tick(): void {
    const { intervalMs, baseEjectionMs, maxEjectionMs } = this.config;
    const nowMs = this.#clock.monotonicMs();
    for (const host of this.hosts)
      if (host.ejected) {
        const durationMs = Math.min(baseEjectionMs * host.backoff, maxEjectionMs) + host.jitterMs;
        if (nowMs - host.ejectedAtMs >= durationMs) this.uneject(host);
      }
    this.#judgeRates("external");
    this.#judgeRates("localOrigin");
    for (const host of this.hosts) {
      clear(host.external);
      clear(host.localOrigin);
      const returned = host.returnedAtMs;
      // Good behaviour for an interval shortens the next ejection.
      if (!host.ejected && host.backoff > 0 && returned !== undefined && nowMs - returned >= intervalMs) host.backoff--;
    }
  }

  #judgeRates(of: "external" | "localOrigin"): void {
    const { successRate, failurePercentage } = this.config;
    const isExternal = of === "external";
    const rated: { host: HostMonitor; rate: number; volume: number }[] = [];
    for (const host of this.hosts) {
      const { total, success } = host[of];
      if (isExternal) host.successRatePercent = undefined;
      if (host.ejected || total === 0) continue;
      const rate = (100 * success) / total;
      if (isExternal && total >= Math.min(successRate.requestsMin, failurePercentage.requestsMin))
        host.successRatePercent = rate;
      rated.push({ host, rate, volume: total });
    }
    const bySuccess = rated.filter(({ volume }) => volume >= successRate.requestsMin);
    if (bySuccess.length > 0 && bySuccess.length >= successRate.hostsMin) {
      const threshold = successRateThreshold(
        bySuccess.map(({ rate }) => rate),
        successRate.stdevFactor,
      );
      for (const { host, rate } of bySuccess)
        if (rate < threshold) this.detected(host, isExternal ? "success_rate" : "local_origin_success_rate");
    }
    const byFailure = rated.filter(({ volume }) => volume >= failurePercentage.requestsMin);
    if (byFailure.length > 0 && byFailure.length >= failurePercentage.hostsMin)
      for (const { host, rate } of byFailure)
        if (100 - rate >= failurePercentage.thresholdPercent)
          this.detected(host, isExternal ? "failure_percentage" : "local_origin_failure_percentage");
  }
}

/** mean − factor × standard deviation, in percent: hosts below it are outliers. */
export function successRateThreshold(rates: readonly number[], stdevFactor: number): number {
  const mean = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
  const variance = rates.reduce((sum, rate) => sum + (rate - mean) ** 2, 0) / rates.length;
  return mean - stdevFactor * Math.sqrt(variance);
}

function counts(): Record<EjectionReason, number> {
  return Object.fromEntries(ejectionReasons.map((reason) => [reason, 0])) as Record<EjectionReason, number>;
}

function clear(tally: Tally): void {
  tally.total = 0;
  tally.success = 0;
}
