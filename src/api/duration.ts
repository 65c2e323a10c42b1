// Durations: Go's syntax ("1h30m", "250ms") as Kubernetes and Istio write it, and ages as kubectl prints them.

const unitMs: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds with fraction, or undefined when `text` is not a Go duration. */
export function parseDurationMs(text: string): number | undefined {
  if (text === "0") return 0;
  if (!/^[-+]?((\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined;
  let totalMs = 0;
  for (const [, number, unit] of text.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)/g))
    totalMs += Number(number) * unitMs[unit!]!;
  return text.startsWith("-") ? -totalMs : totalMs;
}

/** The age of something, as kubectl prints it: two units at most, coarser with age (apimachinery duration.HumanDuration). */
export function humanDuration(durationMs: number): string {
  if (durationMs < -1000) return "<invalid>";
  const seconds = Math.max(0, Math.floor(durationMs / 1000));
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return withRest(minutes, "m", seconds % 60, "s");
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(seconds / 3600);
  if (hours < 8) return withRest(hours, "h", minutes % 60, "m");
  if (hours < 48) return `${hours}h`;
  if (hours < 192) return withRest(Math.floor(hours / 24), "d", hours % 24, "h");
  if (hours < 24 * 365 * 2) return `${Math.floor(hours / 24)}d`;
  const years = Math.floor(hours / 24 / 365);
  if (hours < 24 * 365 * 8) return withRest(years, "y", Math.floor(hours / 24) % 365, "d");
  return `${years}y`;
}

const withRest = (count: number, unit: string, rest: number, restUnit: string) =>
  `${count}${unit}${rest === 0 ? "" : `${rest}${restUnit}`}`;

/** The age at `nowMs` of an RFC 3339 timestamp; "<unknown>" without one. */
export function ageOf(timestamp: string | undefined | null, nowMs: number): string {
  if (timestamp === undefined || timestamp === null || timestamp === "") return "<unknown>";
  return humanDuration(nowMs - Date.parse(timestamp));
}
