// The filter of a Telemetry's access log, a CEL expression, as far as Envoy's own filters can say it. Pure.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type AccessLogFilter,
  AccessLogFilterSchema,
  ComparisonFilter_Op as Op,
} from "#gen/xds/envoy/config/accesslog/v3/accesslog_pb.js";
import { type HeaderMatcher, HeaderMatcherSchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { escapeRegExp } from "../kernel/regexp.ts";

/** Longer expressions are not looked at. */
const expressionCharsMax = 4_096;

type Condition =
  | { kind: "and" | "or"; of: Condition[] }
  | { kind: "code"; operator: string; code: number }
  | { kind: "header"; header: HeaderMatcher };

/**
 * Comparisons of response.code; request.method, host, path, url_path and headers compared or searched; put together with `&&`, `||`,
 * `!` and parentheses. Undefined for any other expression: everything is logged.
 */
export function logFilterOf(expression: string): AccessLogFilter | undefined {
  if (expression.length > expressionCharsMax) return undefined;
  const reader = new Reader(expression);
  const condition = anyOf(reader);
  return condition && reader.atEnd() ? filterOf(condition) : undefined;
}

class Reader {
  readonly #text: string;
  #at = 0;
  constructor(text: string) {
    this.#text = text;
  }
  /** What the pattern (sticky) finds here, past white space. */
  take(pattern: RegExp): RegExpExecArray | null {
    const spaces = /\s*/y;
    spaces.lastIndex = this.#at;
    this.#at += spaces.exec(this.#text)![0].length;
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (found) this.#at = pattern.lastIndex;
    return found;
  }
  atEnd(): boolean {
    return this.take(/$/y) !== null;
  }
}

/** Undefined from any of these: not understood. */
function listOf(
  reader: Reader,
  separator: RegExp,
  kind: "and" | "or",
  part: (reader: Reader) => Condition | undefined,
): Condition | undefined {
  const parts: Condition[] = [];
  do {
    const one = part(reader);
    if (one === undefined) return undefined;
    parts.push(one);
  } while (reader.take(separator));
  return parts.length === 1 ? parts[0] : { kind, of: parts };
}

const anyOf = (reader: Reader): Condition | undefined => listOf(reader, /\|\|/y, "or", allOf);
const allOf = (reader: Reader): Condition | undefined => listOf(reader, /&&/y, "and", term);

function term(reader: Reader): Condition | undefined {
  if (reader.take(/!(?!=)/y)) {
    const condition = term(reader);
    return condition && negated(condition);
  }
  if (!reader.take(/\(/y)) return codeTest(reader) ?? fieldTest(reader);
  const condition = anyOf(reader);
  return reader.take(/\)/y) ? condition : undefined;
}

function codeTest(reader: Reader): Condition | undefined {
  const [, operator, code] = reader.take(/response\.code\s*(>=|<=|==|!=|>|<)\s*(\d{1,3})\b/y) ?? [];
  return operator === undefined ? undefined : { kind: "code", operator, code: Number(code) };
}

const text = `'([^'\\\\]*)'|"([^"\\\\]*)"`;
const attribute = `request\\.(?:(method|host|path|url_path)|headers\\[(?:${text})\\])`;
const comparison = new RegExp(`${attribute}\\s*(==|!=)\\s*(?:${text})`, "y");
const search = new RegExp(`${attribute}\\.(startsWith|endsWith|contains|matches)\\(\\s*(?:${text})\\s*\\)`, "y");
const presence = new RegExp(`(?:${text})\\s+in\\s+request\\.headers`, "y");

const pseudoFields: Readonly<Record<string, string>> = {
  method: ":method",
  host: ":authority",
  path: ":path",
  url_path: ":path",
};

function fieldTest(reader: Reader): Condition | undefined {
  const present = reader.take(presence);
  if (present) return headerTest((present[1] ?? present[2])!, { case: "presentMatch", value: true }, false);
  const compared = reader.take(comparison);
  const found = compared ?? reader.take(search);
  if (!found) return undefined;
  const [, name, single, double, operator = "", one, other] = found;
  const field = name === undefined ? (single ?? double)!.toLowerCase() : pseudoFields[name]!;
  const regex = patternOf(compared ? "equals" : operator, (one ?? other)!, name === "url_path");
  const value = { matchPattern: { case: "safeRegex", value: { regex } } } as const;
  return headerTest(field, { case: "stringMatch", value }, operator === "!=");
}

/** About the whole field, as Envoy has it; the path without its parameters where those are not meant. */
function patternOf(operator: string, wanted: string, isPathOnly: boolean): string {
  const any = isPathOnly ? "[^?]*" : ".*";
  const rest = isPathOnly ? "(?:\\?.*)?" : "";
  const literal = escapeRegExp(wanted);
  switch (operator) {
    case "startsWith":
      return `${literal}.*`;
    case "endsWith":
      return `${any}${literal}${rest}`;
    case "contains":
      return `${any}${literal}${any}${rest}`;
    case "matches":
      return `${any}(?:${wanted})${any}${rest}`;
    default:
      return `${literal}${rest}`;
  }
}

const headerTest = (
  name: string,
  headerMatchSpecifier: NonNullable<MessageInitShape<typeof HeaderMatcherSchema>["headerMatchSpecifier"]>,
  invertMatch: boolean,
): Condition => ({
  kind: "header",
  // A field that is not there is not equal to anything.
  header: create(HeaderMatcherSchema, {
    ...{ name, headerMatchSpecifier, invertMatch },
    treatMissingHeaderAsEmpty: headerMatchSpecifier.case === "stringMatch",
  }),
});

const opposite: Readonly<Record<string, string>> = {
  ">=": "<",
  "<": ">=",
  ">": "<=",
  "<=": ">",
  "==": "!=",
  "!=": "==",
};

function negated(condition: Condition): Condition {
  switch (condition.kind) {
    case "code":
      return { ...condition, operator: opposite[condition.operator]! };
    case "header": {
      const { header } = condition;
      return { kind: "header", header: { ...header, invertMatch: !header.invertMatch } };
    }
    default:
      return { kind: condition.kind === "and" ? "or" : "and", of: condition.of.map(negated) };
  }
}

type FilterInit = NonNullable<MessageInitShape<typeof AccessLogFilterSchema>["filterSpecifier"]>;

const filterOf = (condition: Condition): AccessLogFilter =>
  create(AccessLogFilterSchema, { filterSpecifier: specifierOf(condition) });

function specifierOf(condition: Condition): FilterInit {
  switch (condition.kind) {
    case "and":
      return { case: "andFilter", value: { filters: condition.of.map(filterOf) } };
    case "or":
      return { case: "orFilter", value: { filters: condition.of.map(filterOf) } };
    case "header":
      return { case: "headerFilter", value: { header: condition.header } };
    case "code":
      return codeFilter(condition.operator, condition.code);
  }
}

/** Envoy compares with ==, >= and <= only. */
function codeFilter(operator: string, code: number): FilterInit {
  const compared = (op: Op, defaultValue: number): FilterInit => ({
    case: "statusCodeFilter",
    value: { comparison: { op, value: { defaultValue, runtimeKey: "telemetry.response_code" } } },
  });
  switch (operator) {
    case "==":
      return compared(Op.EQ, code);
    case "!=": {
      const below = create(AccessLogFilterSchema, { filterSpecifier: compared(Op.LE, code - 1) });
      const above = create(AccessLogFilterSchema, { filterSpecifier: compared(Op.GE, code + 1) });
      return { case: "orFilter", value: { filters: [below, above] } };
    }
    default: {
      const bound = operator === ">" ? code + 1 : operator === "<" ? code - 1 : code;
      return compared(operator.startsWith(">") ? Op.GE : Op.LE, bound);
    }
  }
}
