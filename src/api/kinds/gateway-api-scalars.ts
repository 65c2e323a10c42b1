// The named scalar types of the Gateway API and what their values may be; checked wherever a kind's schema uses them.

import { parseDurationMs } from "../duration.ts";
import { child, invalid, keyed } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { dnsLabelProblem, dnsSubdomainProblem } from "../names.ts";
import { type Schema, schemaNamed } from "../schema.ts";

type Rule = (value: string | number) => string | undefined;

const matching =
  (pattern: RegExp, lengthMax: number, shape: string): Rule =>
  (value) => {
    const text = String(value);
    if (text.length > lengthMax) return `may not be longer than ${lengthMax}`;
    return pattern.test(text) ? undefined : `must be ${shape}`;
  };

const domain = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const prefixedName = new RegExp(`^${domain}/[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+$`);
const isAddress = (text: string): boolean => /^\d{1,3}(\.\d{1,3}){3}$/.test(text);
const nameLengthMax = 253;

const notAddress =
  (rule: Rule): Rule =>
  (value) =>
    isAddress(String(value)) ? "must be a name, not an IP address" : rule(value);

const rules: Readonly<Record<string, Rule>> = {
  AbsoluteURI: matching(/^(([^:/?#]+):)(\/\/([^/?#]*))([^?#]*)(\?([^#]*))?(#(.*))?/, nameLengthMax, "an absolute URI"),
  Duration: (value) =>
    /^([0-9]{1,5}(h|m|s|ms)){1,4}$/.test(String(value))
      ? undefined
      : "must be a duration such as 1h, 30s or 500ms (GEP-2257)",
  FeatureName: matching(/./, nameLengthMax, "a name"),
  GatewayController: matching(prefixedName, nameLengthMax, "a domain-prefixed path such as example.com/controller"),
  Group: matching(new RegExp(`^$|^${domain}$`), nameLengthMax, "empty, or a DNS name"),
  HTTPHeaderName: matching(/^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$/, 256, "the name of an HTTP header"),
  HeaderName: matching(/^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$/, 256, "the name of an HTTP header"),
  Hostname: notAddress(
    matching(
      new RegExp(`^(\\*\\.)?${domain}$`),
      nameLengthMax,
      "a DNS name, which may begin with the wildcard label *.",
    ),
  ),
  Kind: matching(/^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$/, 63, "the name of a kind"),
  LabelKey: matching(/^([a-zA-Z0-9.-]{1,253}\/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/, 317, "a label key"),
  LabelValue: matching(/^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/, 63, "a label value"),
  Namespace: (value) => dnsLabelProblem(String(value)),
  ObjectName: matching(/./, nameLengthMax, "a name"),
  PortNumber: (value) => (Number(value) >= 1 && Number(value) <= 65535 ? undefined : "must be between 1 and 65535"),
  PreciseHostname: notAddress(matching(new RegExp(`^${domain}$`), nameLengthMax, "a DNS name without a wildcard")),
  SectionName: (value) => dnsSubdomainProblem(String(value)),
};

const nameOf = (schema: Schema): string | undefined => {
  const reference = schema.$ref ?? schema.allOf?.[0]?.$ref;
  return reference?.slice(reference.lastIndexOf("/") + 1);
};

/** What is wrong with scalars of these types anywhere in `value`. */
export function validateScalars(value: unknown, schema: Schema, path: string): FieldError[] {
  const name = nameOf(schema);
  if (typeof value === "string" || typeof value === "number") {
    const problem = name === undefined ? undefined : rules[name.slice(name.lastIndexOf(".") + 1)]?.(value);
    return problem === undefined ? [] : [invalid(path, value, problem)];
  }
  if (typeof value !== "object" || value === null) return [];
  const { properties, additionalProperties, items } = name === undefined ? schema : schemaNamed(name);
  if (Array.isArray(value))
    return items === undefined ? [] : value.flatMap((item, i) => validateScalars(item, items, child(path, i)));
  return Object.entries(value).flatMap(([field, each]) => {
    const next = properties?.[field];
    if (next !== undefined) return validateScalars(each, next, child(path, field));
    return additionalProperties ? validateScalars(each, additionalProperties, keyed(path, field)) : [];
  });
}

/** Of two durations as the Gateway API writes them; absent ones are not compared. */
export function isLonger(one: string | undefined, other: string | undefined): boolean {
  if (one === undefined || other === undefined) return false;
  const [a = 0, b = 0] = [parseDurationMs(one), parseDurationMs(other)];
  // 0 stands for no limit.
  return b > 0 && (a > b || a === 0);
}

/** A list that is too long. */
export function tooMany(list: readonly unknown[] | undefined, path: string, max: number): FieldError[] {
  const count = list?.length ?? 0;
  return count <= max
    ? []
    : [{ field: path, reason: "FieldValueTooLong", message: `Too many: ${count}: must have at most ${max} items` }];
}
