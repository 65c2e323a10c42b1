// Trace context in request fields: W3C (traceparent, tracestate) and B3 (single and multiple fields). Pure.

export interface TraceContext {
  /** 16 or 32 lower-case hexadecimal digits. */
  traceId: string;
  spanId: string;
  /** B3 only; "" when not said. */
  parentId: string;
  /** Undefined: the caller leaves it to us. */
  sampled: boolean | undefined;
  traceState: string;
}

export interface Extracted {
  /** Undefined when no field holds a valid one. */
  context: TraceContext | undefined;
  /** B3 also allows a decision without a trace ("b3: 0"). */
  sampled: boolean | undefined;
  /** The forms that came, which are all kept up to date. */
  w3c: boolean;
  b3Single: boolean;
  b3: boolean;
}

/** Longer ones are not passed on (W3C Trace Context §3.3.1.5 asks for at least 512 characters). */
const traceStateCharsMax = 2048;

const zero = /^0+$/;
const isId = (text: string): boolean => !zero.test(text);

/** version "-" trace-id "-" parent-id "-" flags; later versions may go on after the flags (W3C Trace Context §3.2.2). */
export function parseTraceparent(text: string, traceState = ""): TraceContext | undefined {
  const parts = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(text.trim());
  if (!parts) return undefined;
  const [, version, traceId, spanId, flags, more] = parts;
  if (version === "ff" || (version === "00" && more !== undefined) || !isId(traceId!) || !isId(spanId!))
    return undefined;
  const state = traceState.length > traceStateCharsMax ? "" : traceState;
  return {
    traceId: traceId!,
    spanId: spanId!,
    parentId: "",
    sampled: (Number.parseInt(flags!, 16) & 1) === 1,
    traceState: state,
  };
}

/** trace id "-" span id ["-" decision ["-" parent id]], or a decision alone. */
function parseB3Single(text: string): { context: TraceContext | undefined; sampled: boolean | undefined } {
  const value = text.trim().toLowerCase();
  if (/^[01d]$/.test(value)) return { context: undefined, sampled: value !== "0" };
  const parts = /^([0-9a-f]{16}|[0-9a-f]{32})-([0-9a-f]{16})(?:-([01d]))?(?:-([0-9a-f]{16}))?$/.exec(value);
  if (!parts || !isId(parts[1]!) || !isId(parts[2]!)) return { context: undefined, sampled: undefined };
  const sampled = parts[3] === undefined ? undefined : parts[3] !== "0";
  const context = { traceId: parts[1]!, spanId: parts[2]!, parentId: parts[4] ?? "", sampled, traceState: "" };
  return { context, sampled };
}

type Field = (name: string) => string | undefined;

function parseB3(field: Field): { context: TraceContext | undefined; sampled: boolean | undefined } {
  const decision = field("x-b3-sampled")?.trim().toLowerCase();
  const debug = field("x-b3-flags")?.trim() === "1";
  const sampled = debug ? true : decision === undefined ? undefined : decision === "1" || decision === "true";
  const traceId = field("x-b3-traceid")?.trim().toLowerCase() ?? "";
  const spanId = field("x-b3-spanid")?.trim().toLowerCase() ?? "";
  const valid = /^([0-9a-f]{16}|[0-9a-f]{32})$/.test(traceId) && /^[0-9a-f]{16}$/.test(spanId);
  if (!valid || !isId(traceId) || !isId(spanId)) return { context: undefined, sampled };
  const parent = field("x-b3-parentspanid")?.trim().toLowerCase() ?? "";
  const parentId = /^[0-9a-f]{16}$/.test(parent) ? parent : "";
  return { context: { traceId, spanId, parentId, sampled, traceState: "" }, sampled };
}

/** `prefer`: which form counts when several came. */
export function extract(field: Field, prefer: "w3c" | "b3"): Extracted {
  const traceparent = field("traceparent");
  const single = field("b3");
  const hasB3 = field("x-b3-traceid") !== undefined || field("x-b3-sampled") !== undefined;
  const w3c = traceparent === undefined ? undefined : parseTraceparent(traceparent, field("tracestate"));
  const one = single === undefined ? undefined : parseB3Single(single);
  const many = hasB3 ? parseB3(field) : undefined;
  const b3 = one?.context ?? many?.context;
  return {
    context: prefer === "w3c" ? (w3c ?? b3) : (b3 ?? w3c),
    sampled: one?.sampled ?? many?.sampled,
    w3c: traceparent !== undefined,
    b3Single: single !== undefined,
    b3: hasB3,
  };
}

export const traceparentOf = (
  { traceId, spanId }: Pick<TraceContext, "traceId" | "spanId">,
  sampled: boolean,
): string => `00-${traceId.padStart(32, "0")}-${spanId}-0${sampled ? 1 : 0}`;

export const b3SingleOf = (context: Pick<TraceContext, "traceId" | "spanId" | "parentId">, sampled: boolean): string =>
  `${context.traceId}-${context.spanId}-${sampled ? 1 : 0}${context.parentId === "" ? "" : `-${context.parentId}`}`;

/** Name and value of each B3 field. */
export function b3FieldsOf(
  { traceId, spanId, parentId }: Pick<TraceContext, "traceId" | "spanId" | "parentId">,
  sampled: boolean,
): [string, string][] {
  const fields: [string, string][] = [
    ["x-b3-traceid", traceId],
    ["x-b3-spanid", spanId],
    ["x-b3-sampled", sampled ? "1" : "0"],
  ];
  if (parentId !== "") fields.push(["x-b3-parentspanid", parentId]);
  return fields;
}
