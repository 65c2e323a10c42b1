// Label and field selectors: parsing the query syntax and metav1.LabelSelector, and matching. One implementation for all planes.

import { MeshbedError } from "../kernel/errors.ts";
import { labelKeyProblem, labelValueProblem } from "./names.ts";

export type LabelOperator = "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt";

/** One term; a selector is a list of them, all of which must hold. */
export interface LabelRequirement {
  key: string;
  operator: LabelOperator;
  values: readonly string[];
}
export type LabelSelector = readonly LabelRequirement[];

/** metav1.LabelSelector as it stands in a spec. */
export interface LabelSelectorSpec {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
}

type Labels = Readonly<Record<string, string>> | undefined;

/** At most this many terms in one selector; a longer one is refused. */
const requirementsMax = 256;

function fail(text: string, problem: string): never {
  throw new MeshbedError("SELECTOR_INVALID", `unable to parse requirement: ${problem} in ${JSON.stringify(text)}`);
}

function tokenize(text: string): string[] {
  return text.match(/==|!=|[=!<>(),]|[^\s=!<>(),]+/g) ?? [];
}

const symbols = new Set(["==", "=", "!=", "!", "<", ">", "(", ")", ","]);

/**
 * Parses `a=b,c!=d,e in (x,y),f notin (z),g,!h,i>1` (apimachinery labels.Parse). Empty text selects everything.
 * Throws MeshbedError SELECTOR_INVALID.
 */
export function parseLabelSelector(text: string): LabelSelector {
  const tokens = tokenize(text);
  const requirements: LabelRequirement[] = [];
  let at = 0;
  const word = (what: string): string => {
    const token = tokens[at];
    if (token === undefined || symbols.has(token)) fail(text, `found '${token ?? ""}', expected: ${what}`);
    at++;
    return token;
  };
  while (at < tokens.length) {
    if (requirements.length >= requirementsMax) fail(text, `more than ${requirementsMax} terms`);
    if (tokens[at] === "!") {
      at++;
      requirements.push({ key: word("identifier"), operator: "DoesNotExist", values: [] });
    } else {
      const key = word("!, identifier, or 'end of string'");
      requirements.push(
        parseTail(
          text,
          tokens,
          key,
          () => at,
          (next) => (at = next),
        ),
      );
    }
    if (at < tokens.length) {
      if (tokens[at] !== ",") fail(text, `found '${tokens[at]}', expected: ',' or 'end of string'`);
      at++;
      if (at === tokens.length) fail(text, "found '', expected: identifier after ','");
    }
  }
  for (const requirement of requirements) checkRequirement(text, requirement);
  return requirements;
}

function parseTail(
  text: string,
  tokens: readonly string[],
  key: string,
  position: () => number,
  advanceTo: (next: number) => void,
): LabelRequirement {
  let at = position();
  const operator = tokens[at];
  if (operator === undefined || operator === ",") return { key, operator: "Exists", values: [] };
  at++;
  if (operator === "in" || operator === "notin") {
    if (tokens[at++] !== "(") fail(text, `found '${tokens[at - 1] ?? ""}', expected: '('`);
    const values: string[] = [];
    let expectValue = true;
    while (tokens[at] !== ")") {
      const token = tokens[at++];
      if (token === undefined) fail(text, "found '', expected: ',', ')' or identifier");
      if (token === ",") {
        if (expectValue) values.push("");
        expectValue = true;
      } else if (symbols.has(token) || !expectValue) fail(text, `found '${token}', expected: ',' or ')'`);
      else {
        values.push(token);
        expectValue = false;
      }
    }
    if (expectValue) values.push("");
    advanceTo(at + 1);
    return { key, operator: operator === "in" ? "In" : "NotIn", values };
  }
  const names: Record<string, LabelOperator> = { "=": "In", "==": "In", "!=": "NotIn", ">": "Gt", "<": "Lt" };
  const name = Object.hasOwn(names, operator) ? names[operator] : undefined;
  if (name === undefined) fail(text, `found '${operator}', expected: in, notin, =, ==, !=, gt, lt`);
  let value = "";
  if (tokens[at] !== undefined && tokens[at] !== ",") {
    value = tokens[at]!;
    if (symbols.has(value)) fail(text, `found '${value}', expected: identifier`);
    at++;
  }
  advanceTo(at);
  return { key, operator: name, values: [value] };
}

function checkRequirement(text: string, requirement: LabelRequirement): void {
  const problem = labelKeyProblem(requirement.key);
  if (problem !== undefined) fail(text, `invalid label key "${requirement.key}": ${problem}`);
  for (const value of requirement.values) {
    const bad = labelValueProblem(value);
    if (bad !== undefined) fail(text, `invalid label value "${value}": ${bad}`);
    if ((requirement.operator === "Gt" || requirement.operator === "Lt") && !/^-?\d+$/.test(value))
      fail(text, "for 'Gt', 'Lt' operators, the value must be an integer");
  }
}

/**
 * The selector in a spec. Absent: selects nothing (undefined is returned); empty: selects everything,
 * as apimachinery's LabelSelectorAsSelector does.
 */
export function labelSelectorOf(spec: LabelSelectorSpec | undefined): LabelSelector | undefined {
  if (spec === undefined) return undefined;
  const requirements: LabelRequirement[] = [];
  for (const [key, value] of Object.entries(spec.matchLabels ?? {}))
    requirements.push({ key, operator: "In", values: [value] });
  for (const { key, operator, values } of spec.matchExpressions ?? [])
    requirements.push({ key, operator: operator as LabelOperator, values: values ?? [] });
  return requirements;
}

/** Whether a metav1.LabelSelector in a spec selects `labels`; an absent one selects nothing. */
export function matchesLabelSelectorSpec(spec: LabelSelectorSpec | undefined, labels: Labels): boolean {
  const selector = labelSelectorOf(spec);
  return selector !== undefined && matchesLabels(selector, labels);
}

export function matchesLabels(selector: LabelSelector, labels: Labels): boolean {
  for (const requirement of selector) if (!matchesRequirement(requirement, labels)) return false;
  return true;
}

/** Whether every pair of `wanted` is in `labels`: the plain map selectors of Services, Istio subsets and node selectors. */
export function matchesMap(wanted: Labels, labels: Labels): boolean {
  for (const key in wanted) if (labels === undefined || labels[key] !== wanted[key]) return false;
  return true;
}

function matchesRequirement({ key, operator, values }: LabelRequirement, labels: Labels): boolean {
  const value = labels !== undefined && Object.hasOwn(labels, key) ? labels[key] : undefined;
  switch (operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    case "Gt":
      return value !== undefined && /^-?\d+$/.test(value) && BigInt(value) > BigInt(values[0] ?? "0");
    case "Lt":
      return value !== undefined && /^-?\d+$/.test(value) && BigInt(value) < BigInt(values[0] ?? "0");
    default:
      return false;
  }
}

/** The text of a selector as query parameter and in `status.selector` of a scale. */
export function formatLabelSelector(selector: LabelSelector): string {
  return selector
    .map(({ key, operator, values }) => {
      if (operator === "Exists") return key;
      if (operator === "DoesNotExist") return `!${key}`;
      if (operator === "Gt") return `${key}>${values[0]}`;
      if (operator === "Lt") return `${key}<${values[0]}`;
      if (values.length === 1) return `${key}${operator === "In" ? "=" : "!="}${values[0]}`;
      return `${key} ${operator === "In" ? "in" : "notin"} (${[...values].sort().join(",")})`;
    })
    .join(",");
}

/** One term of a field selector; all must hold. */
export interface FieldRequirement {
  field: string;
  equal: boolean;
  value: string;
}

/**
 * Parses `metadata.name=a,status.phase!=Running` (apimachinery fields.ParseSelector; backslash escapes `,`, `=` and itself).
 * Throws MeshbedError SELECTOR_INVALID.
 */
export function parseFieldSelector(text: string): FieldRequirement[] {
  if (text === "") return [];
  const terms = text.match(/(?:\\.|[^,\\])+/gs) ?? [];
  if (terms.length > requirementsMax) fail(text, `more than ${requirementsMax} terms`);
  return terms.map((term) => {
    const parts = /^((?:\\.|[^=!\\])+)(!=|==|=)(.*)$/s.exec(term);
    if (parts === null)
      throw new MeshbedError("SELECTOR_INVALID", `invalid selector: '${text}'; can't understand '${term}'`);
    const unescaped = (value: string) => value.replace(/\\([\\,=])/g, "$1");
    return { field: unescaped(parts[1]!), equal: parts[2] !== "!=", value: unescaped(parts[3]!) };
  });
}

/** `fieldText` answers the value of a field as text, "" when absent. */
export function matchesFields(selector: readonly FieldRequirement[], fieldText: (field: string) => string): boolean {
  for (const { field, equal, value } of selector) if ((fieldText(field) === value) !== equal) return false;
  return true;
}
