// Trace context fields: what is read, what is refused, what is written.
import { describe, expect, test } from "bun:test";
import { b3FieldsOf, b3SingleOf, extract, parseTraceparent, traceparentOf } from "./trace_context.ts";

const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
const span = "00f067aa0ba902b7";
const from = (fields: Record<string, string>, prefer: "w3c" | "b3" = "w3c") => extract((name) => fields[name], prefer);

describe("traceparent", () => {
  const good: [string, boolean][] = [
    [`00-${trace}-${span}-01`, true],
    [`00-${trace}-${span}-00`, false],
    [`cc-${trace}-${span}-03-what-comes-later`, true],
  ];
  for (const [text, sampled] of good)
    test(`${text} is taken`, () =>
      expect(parseTraceparent(text)).toMatchObject({ traceId: trace, spanId: span, sampled }));
  const bad = [
    "",
    `00-${trace}-${span}`,
    `00-${trace}-${span}-01-more`,
    `ff-${trace}-${span}-01`,
    `00-${"0".repeat(32)}-${span}-01`,
    `00-${trace}-${"0".repeat(16)}-01`,
    `00-${trace.toUpperCase()}-${span}-01`,
    `00-${trace.slice(1)}-${span}-01`,
  ];
  for (const text of bad) test(`${text || "nothing"} is refused`, () => expect(parseTraceparent(text)).toBeUndefined());
  test("the state goes along unless it is too long", () => {
    expect(parseTraceparent(`00-${trace}-${span}-01`, "a=1,b=2")?.traceState).toBe("a=1,b=2");
    expect(parseTraceparent(`00-${trace}-${span}-01`, "x".repeat(5000))?.traceState).toBe("");
  });
});

describe("B3", () => {
  test("one field: with decision and parent, without, or a decision alone", () => {
    expect(from({ b3: `${trace}-${span}-1-${span}` }).context).toMatchObject({
      traceId: trace,
      sampled: true,
      parentId: span,
    });
    expect(from({ b3: `${trace.slice(16)}-${span}` }).context).toMatchObject({
      traceId: trace.slice(16),
      sampled: undefined,
    });
    expect(from({ b3: "0" })).toMatchObject({ context: undefined, sampled: false });
    expect(from({ b3: "nonsense" })).toMatchObject({ context: undefined, sampled: undefined, b3Single: true });
  });
  test("several fields: decision, debug flag, parent", () => {
    const fields = { "x-b3-traceid": trace, "x-b3-spanid": span, "x-b3-sampled": "0", "x-b3-parentspanid": span };
    expect(from(fields).context).toEqual({
      traceId: trace,
      spanId: span,
      parentId: span,
      sampled: false,
      traceState: "",
    });
    expect(from({ ...fields, "x-b3-flags": "1" }).context?.sampled).toBe(true);
    expect(from({ "x-b3-sampled": "1" })).toMatchObject({ context: undefined, sampled: true });
    expect(from({ ...fields, "x-b3-spanid": "zz" }).context).toBeUndefined();
  });
});

test("of several forms the preferred one counts, the other only if it is the only good one", () => {
  const other = "1111111111111111";
  const fields = { traceparent: `00-${trace}-${span}-01`, b3: `${other}-${other}-0` };
  expect(from(fields, "w3c").context?.traceId).toBe(trace);
  expect(from(fields, "b3").context?.traceId).toBe(other);
  expect(from({ ...fields, traceparent: "bad" }, "w3c").context?.traceId).toBe(other);
});

test("what is written is read again", () => {
  const context = { traceId: trace, spanId: span, parentId: "1111111111111111" };
  expect(from({ traceparent: traceparentOf(context, true) }).context).toMatchObject({
    traceId: trace,
    spanId: span,
    sampled: true,
  });
  expect(from({ b3: b3SingleOf(context, false) }).context).toMatchObject({ ...context, sampled: false });
  expect(from(Object.fromEntries(b3FieldsOf(context, true))).context).toMatchObject({ ...context, sampled: true });
  expect(traceparentOf({ traceId: trace.slice(16), spanId: span }, false)).toBe(
    `00-${"0".repeat(16)}${trace.slice(16)}-${span}-00`,
  );
});
