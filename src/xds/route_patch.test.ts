// A patched route configuration is the one that was meant, whatever changed; and clients share what is equal.
import { expect, test } from "bun:test";
import { create, equals, fromBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { type RouteConfiguration, RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { type Random, seededRandom } from "../kernel/random.ts";
import { contentVersion, encodeResource } from "./protocol.ts";
import { encodePatch } from "./route_patch.ts";
import { createSharedDecoder, routeShell } from "./shared_decoder.ts";
import { typeUrls } from "./types.ts";

const seed = Number(process.env["SEED"] ?? Math.floor(performance.timeOrigin) % 1_000_000);
const host = (name: string, text: string) => ({ name, domains: [name], routes: [{ name: text }] });

function table(names: readonly string[], random: Random, more: object = {}): RouteConfiguration {
  return create(RouteConfigurationSchema, {
    name: "80",
    virtualHosts: names.map((name) => host(name, String(random.below(3)))),
    ...more,
  });
}

/** Hosts that are equal are one object, as the control plane's memo makes them. */
function after(base: RouteConfiguration, next: RouteConfiguration): RouteConfiguration {
  const known = new Map(base.virtualHosts.map((each) => [each.name, each]));
  const same = next.virtualHosts.map((each) => {
    const old = known.get(each.name);
    return old?.routes[0]?.name === each.routes[0]?.name ? old! : each;
  });
  return { ...next, virtualHosts: same };
}

test("a patch makes of what the client has what the server has", () => {
  const random = seededRandom(seed);
  let patched = 0;
  for (let round = 0; round < 300; round++) {
    const names = Array.from({ length: 4 + random.below(8) }, (_, index) => `h${index}`);
    const base = table(names, random);
    const kept = names.filter(() => random.below(6) > 0);
    if (random.below(8) === 0) kept.reverse();
    if (random.below(8) === 0) kept.push("new");
    const next = after(base, table(kept, random, { ignorePortInHostMatching: random.below(2) === 0 }));
    const any = encodePatch(base, next);
    if (any === undefined) continue;
    patched++;
    const decoder = createSharedDecoder();
    const held = { version: contentVersion(typeUrls.route, base), message: base };
    const made = decoder.patch(fromBinary(AnySchema, any).value, held) as RouteConfiguration;
    if (!equals(RouteConfigurationSchema, made, next)) throw new Error(`seed ${seed}, round ${round}`);
  }
  expect(patched).toBeGreaterThan(50);
});

test("a patch is small, is refused on another base, and gives all streams one object", () => {
  const random = seededRandom(1);
  const names = Array.from({ length: 1_000 }, (_, index) => `host-${index}.test`);
  const base = table(names, random);
  const hosts = [...base.virtualHosts];
  hosts[500] = create(RouteConfigurationSchema, { virtualHosts: [host("host-500.test", "changed")] }).virtualHosts[0]!;
  const next = { ...base, virtualHosts: hosts };
  const any = encodePatch(base, next)!;
  expect(any.length).toBeLessThan(300);
  expect(encodeResource(typeUrls.route, next).length).toBeGreaterThan(20_000);
  const { value } = fromBinary(AnySchema, any);
  const decoder = createSharedDecoder();
  expect(() => decoder.patch(value, { version: "other", message: base })).toThrow("here is other");
  expect(() => decoder.patch(value, undefined)).toThrow("here is none");
  const held = { version: contentVersion(typeUrls.route, base), message: base };
  expect(decoder.patch(value, held)).toBe(decoder.patch(value, held));
});

test("of two whole configurations all that is equal is one object", () => {
  const random = seededRandom(2);
  const base = table(["a", "b"], random);
  const other = after(base, table(["a", "b", "c"], random));
  const decoder = createSharedDecoder();
  const decode = (message: RouteConfiguration) => {
    const { value } = fromBinary(AnySchema, encodeResource(typeUrls.route, message));
    return decoder.decode(typeUrls.route, value) as RouteConfiguration;
  };
  const [one, two] = [decode(base), decode(other)];
  expect(equals(RouteConfigurationSchema, two, other)).toBe(true);
  expect(routeShell(one)).toBe(routeShell(two));
  const shared = one.virtualHosts.filter((each, index) => two.virtualHosts[index] === each);
  expect(shared.length).toBe(base.virtualHosts.filter((each, index) => other.virtualHosts[index] === each).length);
  expect(decode(base)).toBe(one);
});
