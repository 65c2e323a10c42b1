// Hashes and tables of consistent hashing against values known from elsewhere.
import { expect, test } from "bun:test";
import { hashOf, isPrime, maglevTable, ringTable } from "./consistent.ts";

test("hashes are the canonical xxHash64", () => {
  const known: [string, bigint][] = [
    ["", 0xef46db3751d8e999n],
    ["a", 0xd24ec4f1a98c6e5bn],
    ["abc", 0x44bc2cf5ad770999n],
  ];
  for (const [text, want] of known) expect(hashOf(text)).toBe(want);
});

test("a ring host owns what lies up to its hashes, and the ring is closed", () => {
  const hosts = [
    { key: "10.0.0.1:80", weight: 1 },
    { key: "10.0.0.2:80", weight: 1 },
  ];
  const ring = ringTable(hosts, 8, 8);
  // Four places each; looked up by brute force.
  const places = hosts.flatMap(({ key }, host) => [0, 1, 2, 3].map((i) => ({ at: hashOf(`${key}_${i}`), host })));
  places.sort((a, b) => (a.at < b.at ? -1 : 1));
  for (const key of ["x", "y", "z", "user 1", "user 2", "user 3"]) {
    const hash = hashOf(key);
    expect(ring.find(hash, 0)).toBe((places.find(({ at }) => at >= hash) ?? places[0]!).host);
  }
  for (const [index, { at, host }] of places.entries()) {
    expect(ring.find(at, 0)).toBe(host);
    expect(ring.find(at, 1)).toBe(places[(index + 1) % 8]!.host);
  }
  expect(ring.find(0xffffffffffffffffn, 0)).toBe(places[0]!.host);
});

test("weights decide how much of a table a host owns, to one place of Maglev's", () => {
  const weighted = [3, 1].map((weight, i) => ({ key: String(i), weight }));
  const table = maglevTable(weighted, 1021);
  let first = 0;
  for (let i = 0n; i < 1021n; i++) first += Number(table.find(i, 0) === 0);
  expect(Math.abs(first - 766)).toBeLessThan(2);
});

test("a Maglev table does not depend on the order of its hosts", () => {
  const hosts = ["a", "b", "c"].map((key) => ({ key, weight: 1 }));
  const [one, other] = [maglevTable(hosts, 251), maglevTable(hosts.toReversed(), 251)];
  for (let i = 0n; i < 251n; i++) expect(2 - other.find(i, 0)).toBe(one.find(i, 0));
});

test("prime numbers are known", () => {
  expect([1, 2, 4, 9, 65_537, 65_536, 5_000_011].map(isPrime)).toEqual([false, true, false, false, true, false, true]);
});
