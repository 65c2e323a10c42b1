// Which hosts of ServiceEntries get an address, and that they keep it.
import { expect, test } from "bun:test";
import type { ServiceEntry } from "../api/types.ts";
import { type Allocated, plan } from "./service-entry-addresses.ts";

type Spec = Partial<NonNullable<ServiceEntry["spec"]>>;
const entry = (name: string, spec: Spec, more: { labels?: Record<string, string>; addresses?: Allocated[] } = {}) =>
  ({
    apiVersion: "networking.istio.io/v1",
    kind: "ServiceEntry",
    metadata: {
      name,
      namespace: "default",
      uid: name,
      creationTimestamp: `2026-01-01T00:00:0${name.length}Z`,
      labels: more.labels ?? {},
    },
    spec: { hosts: [`${name}.example.com`], resolution: "DNS", ...spec },
    status: { addresses: more.addresses },
  }) as unknown as ServiceEntry;

test("every host that is no wildcard gets an address of 240.240.0.0/16, each another", () => {
  const planned = plan(entry("a", { hosts: ["A.example.com", "b.example.com", "*.example.com"] }), []);
  expect(planned.map(({ host }) => host)).toEqual(["a.example.com", "b.example.com"]);
  for (const { value } of planned) expect(value).toMatch(/^240\.240\.\d+\.\d+$/);
  expect(planned[0]!.value).not.toBe(planned[1]!.value);
});

test("the same entry gets the same address again", () => {
  expect(plan(entry("a", {}), [])).toEqual(plan(entry("a", {}), []));
});

test("an address that another entry has is left to it; an allocated one is kept, unless an older entry has it too", () => {
  const [first] = plan(entry("a", {}), []);
  const holder = entry("holder", {}, { addresses: [{ host: "holder.example.com", value: first!.value }] });
  const [second] = plan(entry("a", {}), [holder]);
  expect(second!.value).not.toBe(first!.value);
  const mine = [{ host: "a.example.com", value: "240.240.9.9" }];
  expect(plan(entry("a", {}, { addresses: mine }), [holder])).toEqual(mine);
  const twin = (name: string) =>
    entry(name, {}, { addresses: [{ host: `${name}.example.com`, value: "240.240.9.9" }] });
  expect(plan(twin("old"), [twin("younger")])[0]!.value).toBe("240.240.9.9");
  expect(plan(twin("younger"), [twin("old")])[0]!.value).not.toBe("240.240.9.9");
});

const none: [string, Spec, Record<string, string>?][] = [
  ["addresses of its own", { addresses: ["1.2.3.4"] }],
  ["resolution NONE, where no address could be honoured", { resolution: "NONE" }],
  ["the label that opts out", {}, { "networking.istio.io/enable-autoallocate-ip": "False" }],
];
for (const [what, spec, labels = {}] of none)
  test(`nothing is allocated to an entry with ${what}`, () => {
    expect(
      plan(entry("a", spec, { labels, addresses: [{ host: "a.example.com", value: "240.240.1.1" }] }), []),
    ).toEqual([]);
  });
