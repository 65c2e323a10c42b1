// Service IPs and node ports in use. Rebuilt from the stored Services at start; all claims of this process go through it.

import type { Random } from "../kernel/random.ts";

/** 10.96.0.0/12. */
export const serviceRange = { base: ipNumber("10.96.0.0"), size: 1 << 20, text: "10.96.0.0/12" };
export const nodePortRange = { first: 30_000, last: 32_767 };
/** The start of the range is left to Services that name their address (Kubernetes' static band). */
const staticBand = 256;

export interface ServiceAddresses {
  ips: Allocator<string>;
  nodePorts: Allocator<number>;
}

/** Hands out each value once; `owner` is the key of the Service that holds it. */
export interface Allocator<T> {
  /** A free value, or undefined when the range is exhausted. */
  next(owner: string): T | undefined;
  /** Whether `value` is now `owner`'s: false when another holds it. */
  take(value: T, owner: string): boolean;
  /** Frees `value` if `owner` holds it. */
  release(value: T, owner: string): void;
}

export function createServiceAddresses(random: Random): ServiceAddresses {
  return {
    ips: allocator(random, serviceRange.size - staticBand - 1, (i) => ipText(serviceRange.base + staticBand + i)),
    nodePorts: allocator(random, nodePortRange.last - nodePortRange.first + 1, (i) => nodePortRange.first + i),
  };
}

function allocator<T>(random: Random, count: number, valueAt: (index: number) => T): Allocator<T> {
  const owners = new Map<T, string>();
  return {
    next(owner) {
      const start = random.below(count);
      for (let i = 0; i < count; i++) {
        const value = valueAt((start + i) % count);
        if (owners.has(value)) continue;
        owners.set(value, owner);
        return value;
      }
      return undefined;
    },
    take(value, owner) {
      const holder = owners.get(value);
      if (holder !== undefined && holder !== owner) return false;
      owners.set(value, owner);
      return true;
    },
    release(value, owner) {
      if (owners.get(value) === owner) owners.delete(value);
    },
  };
}

/** The address as an unsigned number; NaN when it is not IPv4 in dotted decimals. */
export function ipNumber(text: string): number {
  const parts = text.split(".");
  if (parts.length !== 4) return Number.NaN;
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return Number.NaN;
    value = value * 256 + Number(part);
  }
  return value;
}

export const ipText = (value: number): string =>
  `${(value >>> 24) & 255}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;

/** Usable as a Service's address: in the range, neither its first nor its last address. */
export function isServiceIp(text: string): boolean {
  const value = ipNumber(text);
  return value > serviceRange.base && value < serviceRange.base + serviceRange.size - 1;
}
