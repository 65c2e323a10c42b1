// Medians, ratios of pairs and slopes: from samples to rows. Pure.

import type { Row, Sample } from "./types.ts";

export interface Metric {
  name: string;
  /** The ratio to this subject is bounded: "meshbed ≤ 1.1 × nginx" is { nginx: { atMost: 1.1 } }. */
  ratioTargets?: Readonly<Record<string, Bound>>;
  /** The subject's own value is bounded. */
  valueTargets?: Readonly<Record<string, Bound>>;
}

export type Bound = { atMost: number } | { atLeast: number };

/** Every other subject is compared with this one. */
export const reference = "meshbed";

export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** `sorted` ascending; `share` 0.99 for p99 (nearest rank). */
export const percentile = (sorted: ArrayLike<number>, share: number): number =>
  sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;

/** Least squares: how much y grows per unit of x. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const count = points.length;
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / count;
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / count;
  const covariance = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0);
  return covariance / points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
}

export const meets = (value: number, bound: Bound): boolean =>
  "atMost" in bound ? value <= bound.atMost : value >= bound.atLeast;

const textOf = (bound: Bound): string => ("atMost" in bound ? `≤ ${bound.atMost}` : `≥ ${bound.atLeast}`);

/** One row per metric and subject. Samples of the same index were taken one right after another: their ratios are medianed. */
export function rowsOf(metrics: readonly Metric[], samples: ReadonlyMap<string, readonly Sample[]>): Row[] {
  const rows: Row[] = [];
  for (const metric of metrics)
    for (const [subject, list] of samples) {
      const values = list.map((sample) => sample[metric.name]!);
      if (values.every(Number.isNaN)) continue;
      const own = samples.get(reference);
      const compared = own !== undefined && subject !== reference;
      const ratio = compared ? median(values.map((value, i) => own[i]![metric.name]! / value)) : undefined;
      const target = targetOf(metric, subject, median(values), ratio);
      rows.push({
        subject,
        metric: metric.name,
        value: median(values),
        ...(ratio && { ratio }),
        ...(target && { target }),
      });
    }
  return rows;
}

function targetOf(metric: Metric, subject: string, value: number, ratio: number | undefined): Row["target"] {
  const bound = metric.valueTargets?.[subject];
  if (bound) return { text: textOf(bound), met: meets(value, bound) };
  const relative = metric.ratioTargets?.[subject];
  if (relative && ratio !== undefined)
    return { text: `meshbed ${textOf(relative)} × ${subject}`, met: meets(ratio, relative) };
  return undefined;
}
