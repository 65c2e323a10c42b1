import { expect, test } from "bun:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { type Random, seededRandom } from "../../kernel/random.ts";
import { ClusterSlot } from "../clusters/cluster.ts";
import { compileRoutes } from "../compile/route.ts";
import { requestOf } from "../request_fixture.ts";
import { findRoute } from "./route.ts";

const segments = ["a", "b", "ab", "abc", "x"];

function randomPath(random: Random): string {
  const parts = Array.from({ length: 1 + random.below(3) }, () => segments[random.below(segments.length)]);
  return `/${parts.join("/")}${random.below(4) === 0 ? "/" : ""}`;
}

function randomMatch(random: Random): object {
  const path = random.below(12) === 0 ? "/" : randomPath(random);
  const caseSensitive = random.below(6) > 0;
  const headers = random.below(3) === 0 ? [{ name: "x-beta", headerMatchSpecifier: present }] : [];
  const kinds = [
    { case: "prefix", value: path },
    { case: "path", value: path },
    { case: "pathSeparatedPrefix", value: path.replace(/\/$/, "") || "/a" },
    { case: "safeRegex", value: { regex: `${path}.*` } },
  ];
  return { pathSpecifier: kinds[random.below(kinds.length)], caseSensitive, headers };
}
const present = { case: "presentMatch", value: true };

test("the index finds the route that trying them in order finds, over 300 seeded tables", () => {
  const slot = new ClusterSlot("app");
  let found = 0;
  for (let seed = 1; seed <= 300; seed++) {
    const random = seededRandom(seed);
    const routes = Array.from({ length: 8 + random.below(40) }, (_, i) => ({
      name: `r${i}`,
      match: randomMatch(random),
      action: { case: "directResponse", value: { status: 200 } },
    }));
    const message = create(RouteConfigurationSchema, {
      virtualHosts: [{ name: "all", domains: ["*"], routes }],
    } as MessageInitShape<typeof RouteConfigurationSchema>);
    const host = compileRoutes(message, {
      slot: () => slot,
      known: () => slot,
      random,
      hosts: new WeakMap(),
      slots: new WeakMap(),
    }).host(0);
    expect(host.index).toBeDefined();
    for (let i = 0; i < 30; i++) {
      const path = randomPath(random);
      const request = requestOf(path, random.below(2) === 0 ? { "x-beta": "1" } : {});
      const expected = findRoute({ ...host, index: undefined }, request);
      if (expected) found++;
      expect(findRoute(host, request)?.name, `seed ${seed}, ${path}`).toBe(expected?.name as string);
    }
  }
  expect(found).toBeGreaterThan(3000);
});
