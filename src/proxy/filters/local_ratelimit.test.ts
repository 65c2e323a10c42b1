// Local rate limits: descriptors on virtual time, and 429 through a running proxy.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type RateLimit, RateLimitSchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { LocalRateLimitSchema } from "#gen/xds/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js";
import { LocalRateLimitSchema as NetworkLimitSchema } from "#gen/xds/envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit_pb.js";
import { VirtualClock } from "../../kernel/clock.ts";
import { freePort, listener, milliseconds, pack, prefix, raw, tcpChain, toCluster } from "../fixture.ts";
import { compileRateLimits, descriptorOf, type RateLimitSubject } from "../routing/rate_limits.ts";
import { FilterFixture, httpFilter } from "./fixture.ts";
import { Limiter } from "./local_ratelimit.ts";

type Init = MessageInitShape<typeof LocalRateLimitSchema>;
const always = { defaultValue: { numerator: 100 } };
const bucketOf = (maxTokens: number, intervalMs = 60_000) => ({
  maxTokens,
  tokensPerFill: maxTokens,
  fillInterval: milliseconds(intervalMs),
});
const limit = (init: object): Init =>
  ({ statPrefix: "t", filterEnabled: always, filterEnforced: always, ...init }) as Init;

describe("descriptors", () => {
  const subject = {
    request: {
      header: (name: string) => ({ "x-user": "ann" })[name],
      query: (name: string) => ({ plan: "free" })[name],
    },
    remoteAddress: "10.0.0.7",
    metadata: (name: string) => ({ jwt: { payload: { sub: "bob" } } })[name],
  } as unknown as RateLimitSubject;
  type Action = NonNullable<MessageInitShape<typeof RateLimitSchema>["actions"]>[number]["actionSpecifier"];
  const present = (name: string) => ({ name, headerMatchSpecifier: { case: "presentMatch", value: true } as const });
  const metadataKey = {
    key: "jwt",
    path: ["payload", "sub"].map((key) => ({ segment: { case: "key", value: key } as const })),
  };
  const cases: [string, Action[], string | undefined][] = [
    ["generic key", [{ case: "genericKey", value: { descriptorValue: "all" } }], "generic_key=all"],
    ["address", [{ case: "remoteAddress", value: {} }], "remote_address=10.0.0.7"],
    ["cluster", [{ case: "destinationCluster", value: {} }], "destination_cluster=a"],
    ["header", [{ case: "requestHeaders", value: { headerName: "X-User", descriptorKey: "user" } }], "user=ann"],
    ["absent header", [{ case: "requestHeaders", value: { headerName: "x-no", descriptorKey: "no" } }], undefined],
    [
      "absent header that is skipped",
      [
        { case: "requestHeaders", value: { headerName: "x-no", descriptorKey: "no", skipIfAbsent: true } },
        { case: "genericKey", value: { descriptorKey: "k", descriptorValue: "v" } },
      ],
      "k=v",
    ],
    [
      "header match",
      [{ case: "headerValueMatch", value: { descriptorValue: "u", headers: [present("x-user")] } }],
      "header_match=u",
    ],
    [
      "header mismatch wanted",
      [{ case: "headerValueMatch", value: { descriptorValue: "u", headers: [present("x-user")], expectMatch: false } }],
      undefined,
    ],
    [
      "query match",
      [{ case: "queryParameterValueMatch", value: { descriptorValue: "q", queryParameters: [{ name: "plan" }] } }],
      "query_match=q",
    ],
    ["metadata", [{ case: "metadata", value: { descriptorKey: "sub", metadataKey } }], "sub=bob"],
    ["absent metadata", [{ case: "metadata", value: { descriptorKey: "x", defaultValue: "nobody" } }], "x=nobody"],
  ];
  for (const [name, actions, want] of cases)
    test(`${name}: ${want ?? "no descriptor"}`, () => {
      const message: RateLimit = create(RateLimitSchema, {
        actions: actions.map((actionSpecifier) => ({ actionSpecifier })),
      });
      const descriptor = descriptorOf(compileRateLimits([message], "a")[0]!, subject);
      expect(descriptor?.map(({ key, value }) => `${key}=${value}`).join(",")).toBe(want as string);
    });

  test("have buckets of their own; the default bucket counts all, or only what no descriptor covers", () => {
    const clock = new VirtualClock();
    const minute = (tokensMax: number) => ({ tokensMax, tokensPerFill: tokensMax, intervalMs: 60_000 });
    const bob = [{ key: "user", value: "bob" }];
    const limits = (alwaysTakesDefault: boolean) => ({
      bucket: minute(3),
      descriptors: [{ entries: bob, bucket: minute(1) }],
      alwaysTakesDefault,
    });
    const calls = (limiter: Limiter) =>
      [[bob], [bob], [], [], [], []].map((request) => (limiter.allows(request) ? "y" : "n")).join("");
    expect(calls(new Limiter(limits(true), clock))).toBe("ynyynn");
    expect(calls(new Limiter(limits(false), clock))).toBe("ynyyyn");
    const limiter = new Limiter(limits(true), clock);
    calls(limiter);
    clock.advance(60_000);
    expect(calls(limiter)).toBe("ynyynn");
    expect(limiter.fields([bob])).toBe("x-ratelimit-limit: 1\r\nx-ratelimit-remaining: 0\r\nx-ratelimit-reset: 60\r\n");
  });
});

describe("through a proxy", () => {
  const fixture = new FilterFixture();
  beforeAll(() => fixture.start());
  afterAll(() => fixture.stop());
  const filter = (init: Init) => httpFilter("limit", LocalRateLimitSchema, init);
  const statuses = async (count: number, path = "/", init: RequestInit = {}): Promise<number[]> => {
    const all: number[] = [];
    for (let i = 0; i < count; i++) all.push((await fixture.fetch(path, init)).status);
    return all;
  };

  test("an empty bucket answers 429 with the configured fields, flagged RL; a route has its own", async () => {
    const config = limit({
      tokenBucket: bucketOf(2),
      enableXRatelimitHeaders: 1,
      responseHeadersToAdd: [{ header: { key: "x-limited", value: "yes" } }],
    });
    const strict = limit({ tokenBucket: bucketOf(1), status: { code: 503 } });
    await fixture.serve({ httpFilters: [filter(config)] }, [
      {
        match: prefix("/strict"),
        action: toCluster("a"),
        typedPerFilterConfig: { limit: pack(LocalRateLimitSchema, strict) },
      },
      { match: prefix("/"), action: toCluster("a") },
    ]);
    expect(await statuses(2)).toEqual([200, 200]);
    const refused = await fixture.fetch("/");
    expect([refused.status, await refused.text(), refused.headers.get("x-limited")]).toEqual([
      429,
      "local_rate_limited",
      "yes",
    ]);
    expect([refused.headers.get("x-ratelimit-limit"), refused.headers.get("x-ratelimit-remaining")]).toEqual([
      "2",
      "0",
    ]);
    expect(await statuses(2, "/strict")).toEqual([200, 503]);
    expect(await fixture.metrics()).toMatch(/response_code="429".*response_flags="RL"/);
  });

  test("without filter_enabled nothing is counted, without filter_enforced it is only told", async () => {
    await fixture.serve({ httpFilters: [filter({ statPrefix: "t", tokenBucket: bucketOf(1) })] }, [
      { match: prefix("/"), action: toCluster("a") },
    ]);
    expect(await statuses(3)).toEqual([200, 200, 200]);
    const told = {
      statPrefix: "t",
      tokenBucket: bucketOf(1),
      filterEnabled: always,
      requestHeadersToAddWhenNotEnforced: [{ header: { key: "x-over", value: "true" } }],
    };
    await fixture.serve({ httpFilters: [filter(told)] }, [{ match: prefix("/"), action: toCluster("a") }]);
    const over = [await fixture.seen("/"), await fixture.seen("/")].map(({ headers }) => headers["x-over"]);
    expect(over).toEqual([undefined as unknown as string, "true"]);
  });

  test("descriptors come from the route's rate_limits", async () => {
    const config = limit({
      tokenBucket: bucketOf(100),
      descriptors: [{ entries: [{ key: "user", value: "bob" }], tokenBucket: bucketOf(1) }],
    });
    const rateLimits = [
      {
        actions: [
          {
            actionSpecifier: {
              case: "requestHeaders",
              value: { headerName: "x-user", descriptorKey: "user" },
            } as const,
          },
        ],
      },
    ];
    await fixture.serve({ httpFilters: [filter(config)] }, [
      { match: prefix("/"), action: { case: "route", value: { ...toCluster("a").value, rateLimits } } },
    ]);
    expect(await statuses(2, "/", { headers: { "x-user": "bob" } })).toEqual([200, 429]);
    expect(await statuses(2, "/", { headers: { "x-user": "ann" } })).toEqual([200, 200]);
  });

  test("a limit per connection starts anew with each; connections themselves can be limited", async () => {
    const config = limit({ tokenBucket: bucketOf(1), localRateLimitPerDownstreamConnection: true });
    await fixture.serve({ httpFilters: [filter(config)] }, [{ match: prefix("/"), action: toCluster("a") }]);
    const two = "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    for (let i = 0; i < 2; i++) {
      const { text } = await raw(fixture.port, two);
      expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 200", "HTTP/1.1 429"]);
    }
    const port = freePort();
    const value = pack(NetworkLimitSchema, { statPrefix: "t", tokenBucket: bucketOf(1) });
    const network = { name: "limit", configType: { case: "typedConfig", value } } as const;
    const { filters = [] } = tcpChain("a");
    await fixture.serve({}, [], { listeners: [listener("127.0.0.1", port, [{ filters: [network, ...filters] }])] });
    const ask = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    expect((await raw(port, ask)).text).toContain("200 OK");
    expect((await raw(port, ask)).text).toBe("");
  });
});
