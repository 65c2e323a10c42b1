// Authorization through a running proxy: requests and connections, per route, dry runs, trusted addresses.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { RBAC_Action as Action, type RBACSchema as PoliciesSchema } from "#gen/xds/envoy/config/rbac/v3/rbac_pb.js";
import { RBACPerRouteSchema, RBACSchema } from "#gen/xds/envoy/extensions/filters/http/rbac/v3/rbac_pb.js";
import { RBACSchema as NetworkRbacSchema } from "#gen/xds/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import { freePort, listener, pack, prefix, raw, tcpChain, toCluster } from "../fixture.ts";
import { FilterFixture, httpFilter } from "./fixture.ts";

type Rules = MessageInitShape<typeof PoliciesSchema>;
type Principal = NonNullable<NonNullable<Rules["policies"]>[string]["principals"]>[number];

const fixture = new FilterFixture();
beforeAll(() => fixture.start());
afterAll(() => fixture.stop());

const rules = (action: Action, name: string, principal: Principal): Rules => ({
  action,
  policies: { [name]: { permissions: [{ rule: { case: "any", value: true } }], principals: [principal] } },
});
const anyone: Principal = { identifier: { case: "any", value: true } };
const from = (addressPrefix: string): Principal => ({
  identifier: { case: "remoteIp", value: { addressPrefix, prefixLen: 32 } },
});
const rbac = (init: MessageInitShape<typeof RBACSchema>) => httpFilter("envoy.filters.http.rbac", RBACSchema, init);

describe("requests", () => {
  test("what no ALLOW policy names is answered 403, flagged UAEX; a route may lift or replace the rules", async () => {
    const perRoute = (init: MessageInitShape<typeof RBACPerRouteSchema>) => ({
      "envoy.filters.http.rbac": pack(RBACPerRouteSchema, init),
    });
    await fixture.serve({ httpFilters: [rbac({ rules: { action: Action.ALLOW } })] }, [
      { match: prefix("/open"), action: toCluster("a"), typedPerFilterConfig: perRoute({}) },
      {
        match: prefix("/other"),
        action: toCluster("a"),
        typedPerFilterConfig: perRoute({ rbac: { rules: rules(Action.DENY, "all of it", anyone) } }),
      },
      { match: prefix("/"), action: toCluster("a") },
    ]);
    const status = async (path: string) => (await fixture.fetch(path)).status;
    const denied = await fixture.fetch("/");
    expect([denied.status, await denied.text()]).toEqual([403, "RBAC: access denied"]);
    expect([await status("/open"), await status("/other")]).toEqual([200, 403]);
    expect(await fixture.metrics()).toMatch(/response_code="403".*response_flags="UAEX"/);
  });

  test("a dry run denies nothing", async () => {
    await fixture.serve(
      {
        httpFilters: [
          rbac({ shadowRules: rules(Action.DENY, "dry", anyone), shadowRulesStatPrefix: "istio_dry_run_" }),
        ],
      },
      [{ match: prefix("/"), action: toCluster("a") }],
    );
    expect((await fixture.fetch("/")).status).toBe(200);
  });

  test("the sender's address counts as far as the chain of proxies is trusted", async () => {
    const filters = [rbac({ rules: rules(Action.ALLOW, "office", from("198.51.100.9")) })];
    const routes = [{ match: prefix("/"), action: toCluster("a") }];
    const status = async (forwardedFor: string) =>
      (await fixture.fetch("/", { headers: { "x-forwarded-for": forwardedFor } })).status;
    await fixture.serve({ httpFilters: filters, useRemoteAddress: true }, routes);
    expect(await status("198.51.100.9")).toBe(403);
    await fixture.serve({ httpFilters: filters, useRemoteAddress: true, xffNumTrustedHops: 1 }, routes);
    expect([await status("198.51.100.9"), await status("198.51.100.9, 10.0.0.1")]).toEqual([200, 403]);
  });
});

describe("connections", () => {
  test("a denied connection is closed before it reaches the server", async () => {
    const port = freePort();
    const chain = (value: Rules): ReturnType<typeof tcpChain> => {
      const config = pack(NetworkRbacSchema, { statPrefix: "t", rules: value });
      const filter = {
        name: "envoy.filters.network.rbac",
        configType: { case: "typedConfig", value: config },
      } as const;
      const { filters = [] } = tcpChain("a");
      return { filters: [filter, ...filters] };
    };
    const ask = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    const open = rules(Action.ALLOW, "here", from("127.0.0.1"));
    await fixture.serve({}, [], { listeners: [listener("127.0.0.1", port, [chain(open)])] });
    expect((await raw(port, ask)).text).toContain("200 OK");
    const shut = rules(Action.DENY, "here", from("127.0.0.1"));
    await fixture.serve({}, [], { listeners: [listener("127.0.0.1", port, [chain(shut)])] });
    const { text, closed } = await raw(port, ask);
    expect([text, closed, fixture.backend.requests.length]).toEqual(["", true, 0]);
  });
});
