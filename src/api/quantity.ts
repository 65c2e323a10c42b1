// Resource quantities ("500m", "1.5Gi", "2e3"): parsing, comparing and the canonical form (apimachinery resource.Quantity).

import { MeshbedError } from "../kernel/errors.ts";

const decimalPower: Record<string, number> = { n: -9, u: -6, m: -3, "": 0, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 };
const binaryPower: Record<string, bigint> = { Ki: 10n, Mi: 20n, Gi: 30n, Ti: 40n, Pi: 50n, Ei: 60n };
const syntax = /^([+-]?)(\d+\.?\d*|\.\d+)(?:([eE][+-]?\d+)|([KMGTPE]i)|([numkMGTPE]))?$/;

/** 10^9 of these are one unit: the finest a quantity can be. */
const nanosPerUnit = 1_000_000_000n;

/** The error text Kubernetes gives for a malformed quantity. */
export const quantityRule =
  "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

type Format = "DecimalSI" | "BinarySI" | "DecimalExponent";

function parse(text: string): { nanos: bigint; format: Format } | undefined {
  const parts = syntax.exec(text);
  if (parts === null || text.length > 64) return undefined;
  const [, sign, digits, exponent, binary, decimal] = parts;
  const [whole = "", fraction = ""] = digits!.split(".");
  let mantissa = BigInt(`${whole}${fraction}` || "0");
  let power = -fraction.length;
  let format: Format = "DecimalSI";
  if (exponent !== undefined) {
    const value = Number(exponent.slice(1));
    if (Math.abs(value) > 30) return undefined;
    power += value;
    format = "DecimalExponent";
  } else if (binary !== undefined) {
    mantissa <<= binaryPower[binary]!;
    format = "BinarySI";
  } else power += decimalPower[decimal ?? ""]!;
  const shift = power + 9;
  // Anything finer than a nano is rounded up, as Kubernetes does.
  const divisor = shift < 0 ? 10n ** BigInt(-shift) : 1n;
  const nanos = shift >= 0 ? mantissa * 10n ** BigInt(shift) : (mantissa + divisor - 1n) / divisor;
  return { nanos: sign === "-" ? -nanos : nanos, format };
}

function require(text: string | number): { nanos: bigint; format: Format } {
  const parsed = parse(String(text));
  if (parsed === undefined) throw new MeshbedError("QUANTITY_INVALID", `${quantityRule}: ${JSON.stringify(text)}`);
  return parsed;
}

export function isQuantity(text: unknown): boolean {
  return (typeof text === "string" || typeof text === "number") && parse(String(text)) !== undefined;
}

/** In base units (cores, bytes), as a float. Throws MeshbedError QUANTITY_INVALID. */
export function quantityValue(text: string | number): number {
  const { nanos } = require(text);
  return Number(nanos / nanosPerUnit) + Number(nanos % nanosPerUnit) / 1e9;
}

/** In thousandths of the base unit, rounded up (millicores). Throws MeshbedError QUANTITY_INVALID. */
export function quantityMilli(text: string | number): number {
  const { nanos } = require(text);
  const milli = nanos / 1_000_000n;
  return Number(nanos % 1_000_000n > 0n ? milli + 1n : milli);
}

/** Negative, zero or positive, as `left` is less than, equal to or greater than `right`. */
export function compareQuantities(left: string | number, right: string | number): number {
  const difference = require(left).nanos - require(right).nanos;
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** The form in which Kubernetes stores a quantity: "1000m" → "1", "1024Mi" → "1Gi", 0.5 → "500m". */
export function canonicalQuantity(text: string | number): string {
  const { nanos, format } = require(text);
  return formatNanos(nanos, format);
}

/** Sum in canonical form; the first non-zero quantity's format decides, as in resource.Quantity.Add. */
export function addQuantities(quantities: readonly (string | number)[]): string {
  let nanos = 0n;
  let format: Format = "DecimalSI";
  for (const text of quantities) {
    const parsed = require(text);
    if (nanos === 0n) format = parsed.format;
    nanos += parsed.nanos;
  }
  return formatNanos(nanos, format);
}

function formatNanos(nanos: bigint, format: Format): string {
  if (nanos === 0n) return "0";
  const sign = nanos < 0n ? "-" : "";
  const size = nanos < 0n ? -nanos : nanos;
  if (format === "BinarySI" && size % nanosPerUnit === 0n && size / nanosPerUnit >= 1024n) {
    const units = size / nanosPerUnit;
    for (const [suffix, power] of Object.entries(binaryPower).reverse())
      if (units % (1n << power) === 0n) return `${sign}${units >> power}${suffix}`;
    return `${sign}${units}`;
  }
  for (const [suffix, power] of Object.entries(decimalPower).reverse()) {
    const unit = 10n ** BigInt(power + 9);
    if (size % unit !== 0n) continue;
    if (format === "DecimalExponent") return `${sign}${size / unit}${power === 0 ? "" : `e${power}`}`;
    return `${sign}${size / unit}${suffix}`;
  }
  return `${sign}${size}n`;
}
