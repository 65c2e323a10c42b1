// How much of its weight a host gets that has just become healthy (Envoy: slow_start_config).

export interface SlowStart {
  windowMs: number;
  /** 1: linear; more: faster at first. */
  aggression: number;
  weightPercentMin: number;
}

/** In (0, 1]: `healthyMs` is how long the host has been healthy. */
export function slowStartFactor({ windowMs, aggression, weightPercentMin }: SlowStart, healthyMs: number): number {
  if (healthyMs >= windowMs) return 1;
  const time = Math.max(1, healthyMs) / windowMs;
  return Math.max(aggression === 1 ? time : time ** (1 / aggression), weightPercentMin / 100);
}
