// Envoy's fractional percentages as shares between 0 and 1. Runtime keys are not read: the default value counts.

import type { RuntimeFeatureFlag, RuntimeFractionalPercent } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import {
  FractionalPercent_DenominatorType as Denominator,
  type FractionalPercent,
} from "#gen/xds/envoy/type/v3/percent_pb.js";
import type { Random } from "../../kernel/random.ts";

const perDenominator: Record<Denominator, number> = {
  [Denominator.HUNDRED]: 100,
  [Denominator.TEN_THOUSAND]: 10_000,
  [Denominator.MILLION]: 1_000_000,
};

/** An omitted percentage is `absent`. */
export const shareOf = (percent: FractionalPercent | undefined, absent: number): number =>
  percent === undefined ? absent : Math.min(1, percent.numerator / perDenominator[percent.denominator]);

export const runtimeShareOf = (percent: RuntimeFractionalPercent | undefined, absent: number): number =>
  percent === undefined ? absent : shareOf(percent.defaultValue, absent);

/** 0 and 1 take no draw. */
export const draws = (share: number, random: Random): boolean => share > 0 && (share >= 1 || random.next() < share);

export const flagOf = (flag: RuntimeFeatureFlag | undefined, absent: boolean): boolean =>
  flag === undefined ? absent : (flag.defaultValue ?? true);
