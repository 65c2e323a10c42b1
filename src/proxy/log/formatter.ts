// Envoy format strings compiled once: text, JSON and header values made of literals and command operators.

import { Buffer } from "node:buffer";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { MeshbedError } from "../../kernel/errors.ts";
import { type Operator, operatorOf, type Value } from "./operators.ts";
import { type Needs, noNeeds, type StreamInfo } from "./stream_info.ts";

export type TextFormat = (info: StreamInfo) => string;

/** Envoy's format when none is configured. */
export const envoyFormat = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"
`;

const command = /%([A-Z][A-Z0-9_]*)(?:\(([^)]*)\))?(?::(\d+))?%/y;

/** Literals and operators in order; `%%` is a percent sign. */
function parse(format: string, needs: Needs): (string | Operator)[] {
  const parts: (string | Operator)[] = [];
  let literal = "";
  for (let at = 0; at < format.length; ) {
    const next = format.indexOf("%", at);
    if (next < 0) {
      literal += format.slice(at);
      break;
    }
    literal += format.slice(at, next);
    if (format[next + 1] === "%") {
      literal += "%";
      at = next + 2;
      continue;
    }
    command.lastIndex = next;
    const found = command.exec(format);
    const operator = found && operatorOf(found[1]!, found[2], needs);
    if (!operator) {
      const name = found
        ? `%${found[1]}%`
        : `${JSON.stringify(format.slice(next, next + 20))} (a lone % is written %%)`;
      throw new MeshbedError("FORMAT_INVALID", `format ${JSON.stringify(format.trimEnd())}: unknown operator ${name}`);
    }
    if (literal !== "") parts.push(literal);
    literal = "";
    parts.push(found[3] === undefined ? operator : shortened(operator, Number(found[3])));
    at = command.lastIndex;
  }
  if (literal !== "") parts.push(literal);
  return parts;
}

function shortened(operator: Operator, lengthMax: number): Operator {
  return (info) => {
    const value = operator(info);
    return typeof value === "string" && value.length > lengthMax ? value.slice(0, lengthMax) : value;
  };
}

const textOf = (value: Exclude<Value, undefined>): string =>
  typeof value === "object" ? JSON.stringify(value) : String(value);

function compile(format: string, needs: Needs, absent: string, clean: (text: string) => string): TextFormat {
  const parts = parse(format, needs);
  return (info) => {
    let text = "";
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i]!;
      if (typeof part === "string") text += part;
      else {
        const value = part(info);
        text += value === undefined ? absent : typeof value === "number" ? value : clean(textOf(value));
      }
    }
    return text;
  };
}

const identity = (text: string): string => text;

/** Field values are bytes held as Latin-1: what is UTF-8 is read as such. */
function decoded(text: string): string {
  if (!/[\x80-\xff]/.test(text) || /[^\0-\xff]/.test(text)) return text;
  return Buffer.from(text, "latin1").toString("utf8");
}

/** No value can end a line or leave its quotes: control characters, quotes and backslashes are written as \xNN, as nginx does. */
function escaped(text: string): string {
  const readable = decoded(text);
  if (!/[\0-\x1f"\\\x7f-\x9f\u2028\u2029]/.test(readable)) return readable;
  return readable.replace(/[\0-\x1f"\\\x7f-\x9f\u2028\u2029]/g, (char) => {
    const code = char.charCodeAt(0);
    return code > 255 ? `\\u${code.toString(16)}` : `\\x${code.toString(16).padStart(2, "0").toUpperCase()}`;
  });
}

/** A line of an access log. */
export const compileLogText = (format: string, omitEmpty: boolean, needs: Needs): TextFormat =>
  compile(format, needs, omitEmpty ? "" : "-", escaped);

/** A body. */
export const compileBodyText = (format: string, omitEmpty: boolean, needs: Needs): TextFormat =>
  compile(format, needs, omitEmpty ? "" : "-", decoded);

/** A header value: a string when nothing in it changes. What may not stand in a field is dropped; values stay bytes. */
export function compileHeaderValue(format: string): string | TextFormat {
  if (!format.includes("%")) return format;
  const parts = parse(format, noNeeds());
  if (parts.every((part) => typeof part === "string")) return parts.join("");
  const build = compile(format, noNeeds(), "", identity);
  return (info) => build(info).replace(/[^\t\x20-\x7e\x80-\xff]/g, "");
}

type JsonFormat = (info: StreamInfo) => JsonValue | undefined;

/** Strings are formats; one that is a single operator keeps its value's type. Nested objects and lists are walked. */
function compileJsonValue(value: JsonValue, needs: Needs, omitEmpty: boolean): JsonFormat {
  if (typeof value === "string") {
    const parts = parse(value, needs);
    const only = parts.length === 1 ? parts[0]! : undefined;
    if (typeof only === "function") return (info) => jsonOf(only(info), omitEmpty);
    return compile(value, needs, omitEmpty ? "" : "-", decoded);
  }
  if (Array.isArray(value)) {
    const items = value.map((item) => compileJsonValue(item, needs, omitEmpty));
    return (info) => items.map((item) => item(info) ?? null);
  }
  if (typeof value === "object" && value !== null) return compileJsonObject(value, needs, omitEmpty);
  return () => value;
}

function jsonOf(value: Value, omitEmpty: boolean): JsonValue | undefined {
  if (value === undefined) return omitEmpty ? undefined : null;
  return typeof value === "string" ? decoded(value) : (value as JsonValue);
}

function compileJsonObject(struct: JsonObject, needs: Needs, omitEmpty: boolean): JsonFormat {
  const entries = Object.entries(struct).map(
    ([key, value]) => [key, compileJsonValue(value, needs, omitEmpty)] as const,
  );
  return (info) => {
    const object: JsonObject = {};
    for (const [key, format] of entries) {
      const value = format(info);
      if (value !== undefined) object[key] = value;
    }
    return object;
  };
}

/** One object; `sorted` puts its keys in alphabetical order. */
export function compileJson(struct: JsonObject, omitEmpty: boolean, sorted: boolean, needs: Needs): TextFormat {
  const format = compileJsonObject(sorted ? sortKeys(struct) : struct, needs, omitEmpty);
  return (info) => JSON.stringify(format(info));
}

function sortKeys(struct: JsonObject): JsonObject {
  const sorted: JsonObject = {};
  for (const key of Object.keys(struct).sort()) {
    const value = struct[key]!;
    sorted[key] = typeof value === "object" && value !== null && !Array.isArray(value) ? sortKeys(value) : value;
  }
  return sorted;
}
