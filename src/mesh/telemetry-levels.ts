// Which Telemetry objects hold for a workload, widest first. Pure.

import type { TelemetryMode, TelemetrySpec } from "../api/telemetry.ts";
import type { Telemetry } from "../api/types.ts";
import { policiesFor } from "./translate-security.ts";
import type { Model, Workload } from "./types.ts";

export type Direction = "CLIENT" | "SERVER";

/** Root namespace < namespace < workload, the oldest of each. */
export function telemetryLevels(model: Model, workload: Workload): TelemetrySpec[] {
  if (model.telemetries.length === 0) return [];
  const all = policiesFor(model.telemetries, model, workload);
  const { rootNamespace } = model.config;
  const isWide = ({ spec }: Telemetry) =>
    !Object.keys(spec?.selector?.matchLabels ?? {}).length && !spec?.targetRef && !spec?.targetRefs?.length;
  const levels = [
    all.find((each) => isWide(each) && each.metadata.namespace === rootNamespace),
    all.find((each) => isWide(each) && each.metadata.namespace === workload.namespace),
    all.find((each) => !isWide(each)),
  ];
  return [...new Set(levels)].flatMap((level) => (level === undefined ? [] : [level.spec ?? {}]));
}

export const isAbout = (mode: TelemetryMode | undefined, direction: Direction): boolean =>
  mode === undefined || mode === "CLIENT_AND_SERVER" || mode === direction;
