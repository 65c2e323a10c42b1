// Consistent hashing: Envoy's ring hash (ketama) and Maglev tables. A key finds its host, and most keys keep theirs when hosts change.

import type { Random } from "../../kernel/random.ts";

/** xxHash64, as Envoy hashes keys and hosts. */
export const hashOf = (text: string, seed = 0n): bigint => Bun.hash.xxHash64(text, seed);

/** For a request of which nothing is hashed. */
export const randomHash = (random: Random): bigint =>
  (BigInt(random.below(2 ** 32)) << 32n) | BigInt(random.below(2 ** 32));

/** From a hash to the number of a host. `attempt` > 0 looks for another one. */
export interface HashTable {
  find(hash: bigint, attempt: number): number;
}

/** Hosts with their share of all weight; shares are positive. */
export interface HashedHost {
  key: string;
  weight: number;
}

/** Hashes are ordered by their upper 53 bits, which a number holds exactly. */
const position = (hash: bigint): number => Number(hash >> 11n);

export function ringTable(hosts: readonly HashedHost[], ringSizeMin: number, ringSizeMax: number): HashTable {
  const total = hosts.reduce((sum, { weight }) => sum + weight, 0);
  const least = hosts.reduce((min, { weight }) => Math.min(min, weight / total), 1);
  // The host of least weight gets a whole number of places, unless the ring would grow too large.
  const scale = Math.min(Math.ceil(least * ringSizeMin) / least, ringSizeMax);
  const entries: { at: number; host: number }[] = [];
  let target = 0;
  hosts.forEach(({ key, weight }, host) => {
    target += scale * (weight / total);
    for (let i = 0; entries.length < target; i++) entries.push({ at: position(hashOf(`${key}_${i}`)), host });
  });
  entries.sort((a, b) => a.at - b.at);
  const positions = Float64Array.from(entries, ({ at }) => at);
  const owners = Int32Array.from(entries, ({ host }) => host);
  return {
    find(hash, attempt) {
      const at = position(hash);
      let low = 0;
      let high = positions.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (positions[middle]! < at) low = middle + 1;
        else high = middle;
      }
      // Past the last place the ring begins anew.
      return owners[(low + attempt) % owners.length]!;
    },
  };
}

/** `tableSize` is prime. */
export function maglevTable(hosts: readonly HashedHost[], tableSize: number): HashTable {
  const size = BigInt(tableSize);
  const heaviest = hosts.reduce((max, { weight }) => Math.max(max, weight), 0);
  // In the order of their keys, so that the table does not depend on the order they are told in.
  const builders = hosts
    .map(({ key, weight }, host) => ({
      host,
      key,
      weight,
      target: 0,
      at: Number(hashOf(key) % size),
      skip: Number(hashOf(key, 1n) % (size - 1n)) + 1,
    }))
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  const table = new Int32Array(tableSize).fill(-1);
  let filled = 0;
  for (let round = 1; filled < tableSize; round++)
    for (const builder of builders) {
      if (filled >= tableSize) break;
      // Lighter hosts sit out rounds in proportion.
      if (round * builder.weight < builder.target) continue;
      builder.target += heaviest;
      while (table[builder.at] !== -1) builder.at = (builder.at + builder.skip) % tableSize;
      table[builder.at] = builder.host;
      filled++;
    }
  return {
    find(hash, attempt) {
      // As Envoy: flip the upper bits by the attempt, so that another attempt is far away.
      const turned = attempt === 0 ? hash : hash ^ BigInt.asUintN(64, -BigInt(attempt));
      return table[Number(turned % size)]!;
    },
  };
}

/** Envoy refuses other sizes: a skip must reach every place. */
export function isPrime(number: number): boolean {
  if (number < 2) return false;
  for (let divisor = 2; divisor * divisor <= number; divisor++) if (number % divisor === 0) return false;
  return true;
}
