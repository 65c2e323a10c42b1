// Telemetry (telemetry.istio.io), and what may be wrong with it (Istio pkg/config/validation ValidateTelemetry).

import { child, forbidden, inRange, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import type { MetricOverride, TracingRule } from "../telemetry.ts";
import type { Telemetry } from "../types.ts";
import { ageColumn, define, nameColumn } from "./define.ts";
import { exclusive, validateDuration, validateRequired } from "./istio-rules.ts";
import { telemetryWarnings } from "./istio-warnings.ts";
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
  for (const field of ["metrics", "tracing", "accessLogging"] as const)
    spec[field]?.forEach(({ providers }, i) => {
      providers?.forEach(({ name }, j) => {
        if (!name)
          errors.push(required(child(`spec.${field}`, i, "providers", j, "name"), "providers.name may not be empty"));
      });
    });
  spec.tracing?.forEach((rule, i) => {
    errors.push(...validateTracing(rule, child("spec.tracing", i)));
  });
  return errors;
}

function validateOverride({ match, tagOverrides }: MetricOverride, path: string): FieldError[] {
  const errors = exclusive(match, child(path, "match"), ["metric", "customMetric"]);
  if (match?.customMetric === "") errors.push(required(child(path, "match", "customMetric"), "must not be empty"));
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

interface CustomTag {
  literal?: { value?: string };
  environment?: { name?: string };
  header?: { name?: string };
}

function validateTracing({ randomSamplingPercentage, customTags }: TracingRule, path: string): FieldError[] {
  const errors = inRange(child(path, "randomSamplingPercentage"), randomSamplingPercentage, 0, 100);
  for (const [tag, source] of Object.entries(customTags ?? {})) {
    const at = child(path, "customTags", tag);
    errors.push(...exclusive(source, at, ["literal", "environment", "header", "formatter"]));
    if (tag === "") errors.push(required(at, "tag name may not be empty"));
    const { literal, environment, header } = source as CustomTag;
    if (literal !== undefined && !literal.value)
      errors.push(required(child(at, "literal", "value"), "literal tag value may not be empty"));
    if (header !== undefined && !header.name)
      errors.push(required(child(at, "header", "name"), "header tag name may not be empty"));
    if (environment !== undefined && !environment.name)
      errors.push(required(child(at, "environment", "name"), "environment tag name may not be empty"));
  }
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
  warn: telemetryWarnings,
});
