// CORS: the answer to a preflight as a table, and what a browser would see through a running proxy.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { CorsPolicySchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { CorsSchema } from "#gen/xds/envoy/extensions/filters/http/cors/v3/cors_pb.js";
import { exact, pack, prefix, toCluster } from "../fixture.ts";
import type { RequestView } from "../http/request.ts";
import { compileCors, isPreflight, preflightAnswer } from "./cors.ts";
import { FilterFixture, httpFilter } from "./fixture.ts";

type Policy = MessageInitShape<typeof CorsPolicySchema>;

const compiled = (policy: Policy, outer?: Policy) =>
  compileCors(create(CorsPolicySchema, policy), outer && compileCors(create(CorsPolicySchema, outer), undefined));

function preflight(fields: Record<string, string> = {}): RequestView {
  const all: Record<string, string> = {
    origin: "https://shop.test",
    "access-control-request-method": "PUT",
    "access-control-request-headers": "x-a,x-b",
    ...fields,
  };
  return { method: "OPTIONS", header: (name: string) => all[name] } as RequestView;
}

describe("the answer to a preflight", () => {
  const full: Policy = {
    allowOriginStringMatch: [exact("https://shop.test"), { matchPattern: { case: "suffix", value: ".friends.test" } }],
    allowMethods: "GET,PUT",
    allowHeaders: "x-a",
    maxAge: "600",
    allowCredentials: true,
    exposeHeaders: "x-total",
  };
  const everything =
    "access-control-allow-origin: https://shop.test\r\naccess-control-allow-credentials: true\r\n" +
    "access-control-allow-methods: GET,PUT\r\naccess-control-allow-headers: x-a\r\naccess-control-max-age: 600\r\n";
  const cases: [string, Policy, Record<string, string>, string | undefined][] = [
    ["names what is allowed", full, {}, everything],
    [
      "is for the origin that asks",
      full,
      { origin: "https://x.friends.test" },
      everything.replace("https://shop.test", "https://x.friends.test"),
    ],
    ["is left to the application for another origin", full, { origin: "https://evil.test" }, undefined],
    ["is left to the application when no origin is configured", { allowMethods: "GET" }, {}, undefined],
    [
      "says nothing of the origin when others are not to be forwarded",
      { ...full, forwardNotMatchingPreflights: false },
      { origin: "https://evil.test" },
      everything.slice(everything.indexOf("access-control-allow-credentials")),
    ],
    [
      "repeats what was asked where everything is allowed",
      { allowOriginStringMatch: [exact("*")], allowMethods: "*", allowHeaders: "*" },
      {},
      "access-control-allow-origin: https://shop.test\r\naccess-control-allow-methods: PUT\r\naccess-control-allow-headers: x-a,x-b\r\n",
    ],
    [
      "opens a private network only to who asks for it",
      { allowOriginStringMatch: [exact("*")], allowPrivateNetworkAccess: true },
      { "access-control-request-private-network": "true" },
      "access-control-allow-origin: https://shop.test\r\naccess-control-allow-private-network: true\r\n",
    ],
  ];
  for (const [name, policy, fields, want] of cases)
    test(name, () => expect(preflightAnswer(compiled(policy), preflight(fields))).toBe(want));

  test("takes from the virtual host what the route leaves open", () => {
    const merged = compiled({ allowMethods: "DELETE", allowCredentials: false }, full);
    expect(preflightAnswer(merged, preflight())).toBe(
      "access-control-allow-origin: https://shop.test\r\naccess-control-allow-methods: DELETE\r\n" +
        "access-control-allow-headers: x-a\r\naccess-control-max-age: 600\r\n",
    );
  });
  test("is given to OPTIONS with origin and method only", () => {
    expect(isPreflight(preflight())).toBe(true);
    expect(isPreflight(preflight({ origin: "" }))).toBe(false);
    expect(isPreflight(preflight({ "access-control-request-method": "" }))).toBe(false);
  });
});

describe("through a proxy", () => {
  const fixture = new FilterFixture();
  beforeAll(() => fixture.start());
  afterAll(() => fixture.stop());
  const filters = { httpFilters: [httpFilter("envoy.filters.http.cors", CorsSchema, {})] };
  const allow: Policy = { allowOriginStringMatch: [exact("https://shop.test")], exposeHeaders: "x-total" };
  const onRoute = (policy: Policy) => ({ "envoy.filters.http.cors": pack(CorsPolicySchema, policy) });

  test("a preflight is answered, a simple request gets the origin back in place of the application's", async () => {
    await fixture.serve(filters, [
      { match: prefix("/"), action: toCluster("a"), typedPerFilterConfig: onRoute({ ...allow, allowMethods: "PUT" }) },
    ]);
    const headers = { origin: "https://shop.test" };
    const before = await fixture.fetch("/", {
      method: "OPTIONS",
      headers: { ...headers, "access-control-request-method": "PUT" },
    });
    expect([before.status, before.headers.get("access-control-allow-methods"), await before.text()]).toEqual([
      200,
      "PUT",
      "",
    ]);
    expect(fixture.backend.requests.length).toBe(0);
    fixture.backend.answer = () => new Response("x", { headers: { "access-control-allow-origin": "*" } });
    const simple = await fixture.fetch("/", { headers });
    expect(simple.headers.get("access-control-allow-origin")).toBe("https://shop.test");
    expect(simple.headers.get("access-control-expose-headers")).toBe("x-total");
    const foreign = await fixture.fetch("/", { headers: { origin: "https://evil.test" } });
    expect(foreign.headers.get("access-control-allow-origin")).toBe("*");
    const plain = await fixture.fetch("/");
    expect(plain.headers.get("access-control-expose-headers")).toBeNull();
  });

  test("the deprecated field of a route counts when the filter has no settings there; a filter can be off or wrapped", async () => {
    const { FilterConfigSchema } = await import("#gen/xds/envoy/config/route/v3/route_components_pb.js");
    const old = { ...toCluster("a").value, cors: allow };
    const off = pack(FilterConfigSchema, { disabled: true });
    const share = { filterEnabled: { numerator: 0 } };
    await fixture.serve(filters, [
      { match: prefix("/old"), action: { case: "route", value: old } },
      {
        match: prefix("/off"),
        action: { case: "route", value: old },
        typedPerFilterConfig: { "envoy.filters.http.cors": off },
      },
      {
        match: prefix("/never"),
        action: toCluster("a"),
        typedPerFilterConfig: onRoute({
          ...allow,
          enabledSpecifier: { case: "filterEnabled", value: { defaultValue: share.filterEnabled } },
        }),
      },
    ]);
    const origin = async (path: string): Promise<string | null> =>
      (await fixture.fetch(path, { headers: { origin: "https://shop.test" } })).headers.get(
        "access-control-allow-origin",
      );
    expect([await origin("/old"), await origin("/off"), await origin("/never")]).toEqual([
      "https://shop.test",
      null,
      null,
    ]);
  });
});
