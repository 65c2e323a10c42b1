// OTLP trace export requests in protobuf, written field by field (opentelemetry/proto/trace/v1/trace.proto); no SDK is loaded.

import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { FinishedSpan } from "./tracing.ts";

const spanKind = { server: 2, client: 3 } as const;
const statusError = 2;

const bytesOf = (hex: string, length: number): Uint8Array => Buffer.from(hex.padStart(length * 2, "0"), "hex");
const nanosOf = (timeMs: number): bigint => BigInt(Math.round(timeMs * 1000)) * 1000n;

/** ExportTraceServiceRequest */
export function encodeTraces(spans: readonly FinishedSpan[], resource: Readonly<Record<string, string>>): Uint8Array {
  const out = new BinaryWriter();
  message(out, 1, () => {
    message(out, 1, () => {
      for (const [key, value] of Object.entries(resource)) keyValue(out, 1, key, value);
    });
    message(out, 2, () => {
      message(out, 1, () => out.tag(1, WireType.LengthDelimited).string("meshbed"));
      for (const span of spans) message(out, 2, () => writeSpan(out, span));
    });
  });
  return out.finish();
}

function writeSpan(out: BinaryWriter, span: FinishedSpan): void {
  const endMs = span.startedAtMs + span.durationMs;
  out.tag(1, WireType.LengthDelimited).bytes(bytesOf(span.traceId, 16));
  out.tag(2, WireType.LengthDelimited).bytes(bytesOf(span.spanId, 8));
  if (span.traceState !== "") out.tag(3, WireType.LengthDelimited).string(span.traceState);
  if (span.parentId !== "") out.tag(4, WireType.LengthDelimited).bytes(bytesOf(span.parentId, 8));
  out.tag(5, WireType.LengthDelimited).string(span.name);
  out.tag(6, WireType.Varint).int32(spanKind[span.kind]);
  out.tag(7, WireType.Bit64).fixed64(nanosOf(span.startedAtMs));
  out.tag(8, WireType.Bit64).fixed64(nanosOf(endMs));
  for (const [key, value] of span.tags) keyValue(out, 9, key, value);
  if (span.isError) message(out, 15, () => out.tag(3, WireType.Varint).int32(statusError));
}

function keyValue(out: BinaryWriter, field: number, key: string, value: string): void {
  message(out, field, () => {
    out.tag(1, WireType.LengthDelimited).string(key);
    message(out, 2, () => out.tag(1, WireType.LengthDelimited).string(value));
  });
}

function message(out: BinaryWriter, field: number, write: () => void): void {
  out.tag(field, WireType.LengthDelimited).fork();
  write();
  out.join();
}
