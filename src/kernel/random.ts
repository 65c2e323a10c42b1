// Randomness, passed in. The only place that calls Math.random or the system's generator.

export interface Random {
  /** In [0, 1). */
  next(): number;
  /** Integer in [0, bound). */
  below(bound: number): number;
}

export const systemRandom: Random = {
  next: () => Math.random(),
  below: (bound) => Math.floor(Math.random() * bound),
};

/** Deterministic generator (mulberry32) for simulations; the same seed gives the same sequence. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return { next, below: (bound) => Math.floor(next() * bound) };
}

const suffixAlphabet = "bcdfghjklmnpqrstvwxz2456789";

/** A random name suffix from Kubernetes' alphabet (no vowels, so no accidental words). */
export function nameSuffix(random: Random, length = 5): string {
  let text = "";
  for (let i = 0; i < length; i++) text += suffixAlphabet[random.below(suffixAlphabet.length)];
  return text;
}

/** A version 4 UUID. */
export function uuid(): string {
  return crypto.randomUUID();
}
