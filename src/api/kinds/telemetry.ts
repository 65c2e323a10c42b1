// Telemetry (telemetry.istio.io), and what may be wrong with it (Istio pkg/config/validation ValidateTelemetry).

import { child, forbidden, inRange, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import type { MetricOverride, TracingRule } from "../telemetry.ts";
import type { Telemetry } from "../types.ts";
import { ageColumn, define, nameColumn } from "./define.ts";
import { exclusive, validateDuration, validateRequired } from "./istio-rules.ts";
import { validateAttached } from "./security-rules.ts";

function validateTelemetry(object: Telemetry): FieldError[] {
  const spec = object.spec ?? {};
  const missing = validateRequired({ spec }, "io.istio.telemetry.v1.Telemetry");
  if (missing.length > 0) return missing;
  const errors = validateAttached(spec);
  spec.metrics?.forEach(({ overrides, reportingInterval }, i) => {
    errors.push(...validateDuration(reportingInterval, child("spec.metrics", i, "reportingInterval")));
    overrides?.forEach((override, j) => {
      errors.push(...validateOverride(override, child("spec.metrics", i, "overrides", j)));
    });
  });
  if ((spec.tracing?.length ?? 0) > 1)
    errors.push(forbidden("spec.tracing", "multiple tracing is not currently supported"));
  spec.tracing?.forEach((rule, i) => {
    errors.push(...validateTracing(rule, child("spec.tracing", i)));
  });
  return errors;
}

function validateOverride({ match, tagOverrides }: MetricOverride, path: string): FieldError[] {
  const errors = exclusive(match, child(path, "match"), ["metric", "customMetric"]);
  for (const [tag, { operation = "UPSERT", value }] of Object.entries(tagOverrides ?? {})) {
    const at = child(path, "tagOverrides", tag);
    if (tag === "") errors.push(required(at, "a tag needs a name"));
    if (operation === "UPSERT" && !value)
      errors.push(required(child(at, "value"), "must be set when operation is UPSERT"));
    if (operation === "REMOVE" && value)
      errors.push(forbidden(child(at, "value"), "must not be set when operation is REMOVE"));
  }
  return errors;
}

function validateTracing({ randomSamplingPercentage, providers, customTags }: TracingRule, path: string): FieldError[] {
  const errors = inRange(child(path, "randomSamplingPercentage"), randomSamplingPercentage, 0, 100);
  if ((providers?.length ?? 0) > 1)
    errors.push(forbidden(child(path, "providers"), "multiple providers is not currently supported"));
  for (const [tag, source] of Object.entries(customTags ?? {}))
    errors.push(
      ...exclusive(source, child(path, "customTags", tag), ["literal", "environment", "header", "formatter"]),
    );
  return errors;
}

export const telemetryKind = define<Telemetry>({
  group: "telemetry.istio.io",
  version: "v1",
  servedVersions: ["v1", "v1alpha1"],
  categories: ["istio-io", "telemetry-istio-io"],
  hasStatus: true,
  kind: "Telemetry",
  plural: "telemetries",
  shortNames: ["telemetry"],
  schemaName: "io.istio.telemetry.v1.Telemetry",
  columns: [nameColumn, ageColumn],
  validate: validateTelemetry,
});
