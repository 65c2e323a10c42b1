// What of Telemetry is not carried out as written. Pure.

import type { AccessLogging, MetricsRule, TracingRule } from "../api/telemetry.ts";
import type { Telemetry } from "../api/types.ts";
import { collect, type Report } from "./problems.ts";
import { targetProblems } from "./problems-security.ts";
import { collectorOf, defaultTracing, fileLogOf, isMetricsProvider, withLegacyZipkin } from "./telemetry-providers.ts";
import { logFilterOf } from "./translate-log-filter.ts";
import { literalTag, metricsMatched } from "./translate-telemetry.ts";
import type { Model, Problem } from "./types.ts";

export const telemetryProblems = (object: Telemetry, model: Model): Problem[] =>
  collect(object, (report) => {
    const { spec } = object;
    targetProblems(spec, report);
    spec?.accessLogging?.forEach((entry, index) => {
      logProblems(entry, `spec.accessLogging[${index}]`, model, report);
    });
    spec?.tracing?.forEach((rule, index) => {
      tracingProblems(rule, `spec.tracing[${index}]`, withLegacyZipkin(model), report);
    });
    spec?.metrics?.forEach((rule, index) => {
      metricsProblems(rule, `spec.metrics[${index}]`, model, report);
    });
  });

function logProblems({ providers, filter, disabled }: AccessLogging, path: string, model: Model, report: Report): void {
  const hasDefault = Boolean(model.settings.defaultProviders?.accessLogging?.length);
  if (!providers?.length && !disabled && !hasDefault)
    report(`${path}.providers`, `only a wider Telemetry can supply them, there is no default; "envoy" is one`);
  for (const { name } of providers ?? [])
    if (fileLogOf(model, name) === undefined) report(`${path}.providers`, `"${name}" is no provider of log files`);
  if (filter?.expression && logFilterOf(filter.expression) === undefined)
    report(
      `${path}.filter.expression`,
      "only response.code and request's method, host, path, url_path and headers are carried out: everything is logged",
    );
}

function tracingProblems(rule: TracingRule, path: string, model: Model, report: Report): void {
  const name = rule.providers?.[0]?.name ?? defaultTracing(model);
  if (name === undefined) {
    if (!rule.disableSpanReporting)
      report(`${path}.providers`, "no provider is named and the mesh has no default one: nothing is traced");
  } else {
    const collector = collectorOf(model, name);
    if (typeof collector === "string") report(`${path}.providers`, `${collector}: nothing is traced`);
  }
  for (const [tag, source] of Object.entries(rule.customTags ?? {}))
    if ("formatter" in source) report(`${path}.customTags.${tag}.formatter`, "the tag is left out");
}

function metricsProblems(rule: MetricsRule, path: string, model: Model, report: Report): void {
  for (const { name } of rule.providers ?? [])
    if (!isMetricsProvider(model, name)) report(`${path}.providers`, `"${name}" is not known; only "prometheus" is`);
  if (rule.reportingInterval !== undefined) report(`${path}.reportingInterval`, "metrics are read, not sent");
  rule.overrides?.forEach((override, i) => {
    const at = `${path}.overrides[${i}]`;
    if (metricsMatched(override).length === 0) report(`${at}.match`, "there is no such metric");
    for (const [tag, { operation, value }] of Object.entries(override.tagOverrides ?? {}))
      if (operation !== "REMOVE" && literalTag(tag, value) === undefined)
        report(`${at}.tagOverrides.${tag}`, "only a quoted text is carried out; the tag stays as it is");
  });
}
