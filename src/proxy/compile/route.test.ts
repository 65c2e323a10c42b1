// Route configurations as tables: which route a request takes, where a redirect leads, what a rewrite makes of it, which cluster is chosen.
import { describe, expect, test } from "bun:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type {
  RedirectActionSchema,
  RouteActionSchema,
  RouteMatchSchema,
  RouteSchema,
} from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { UriTemplateMatchConfigSchema } from "#gen/xds/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import { UriTemplateRewriteConfigSchema } from "#gen/xds/envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite_pb.js";
import { seededRandom } from "../../kernel/random.ts";
import { ClusterSlot, unknownWorkload } from "../clusters/cluster.ts";
import { exact, pack } from "../fixture.ts";
import type { RequestView } from "../http/request.ts";
import { requestOf } from "../request_fixture.ts";
import { findRoute, findVirtualHost, pickTarget, type Route, type RouteTable } from "../routing/route.ts";
import { compileRoutes } from "./route.ts";

type RouteInit = MessageInitShape<typeof RouteSchema>;
type MatchInit = MessageInitShape<typeof RouteMatchSchema>;
type ActionInit = MessageInitShape<typeof RouteActionSchema>;

const slots = new Map(["a", "b"].map((name) => [name, new ClusterSlot(name)]));
const slot = (name: string): ClusterSlot => slots.get(name) ?? new ClusterSlot(name);
type ConfigurationInit = Omit<MessageInitShape<typeof RouteConfigurationSchema>, "$typeName" | "$unknown">;

function tableOf(routes: RouteInit[], more: ConfigurationInit = {}): RouteTable {
  const message = create(RouteConfigurationSchema, {
    virtualHosts: [{ name: "all", domains: ["*"], routes }],
    ...more,
  } as MessageInitShape<typeof RouteConfigurationSchema>);
  return compileRoutes(message, {
    slot,
    known: (name) => slots.get(name),
    random: seededRandom(7),
    hosts: new WeakMap(),
    slots: new WeakMap(),
  });
}

const routeOf = (table: RouteTable, request: RequestView): Route | undefined =>
  findRoute(findVirtualHost(table, request.host)!, request);

const to = (cluster: string, more: object = {}): RouteInit["action"] => ({
  case: "route",
  value: { clusterSpecifier: { case: "cluster", value: cluster }, ...more } as ActionInit,
});
const prefix = { pathSpecifier: { case: "prefix", value: "/" } } as const;
const text = (value: object, name = "x-a") =>
  ({ headers: [{ name, headerMatchSpecifier: { case: "stringMatch", value } }] }) as MatchInit;

describe("a match", () => {
  const template = (pathTemplate: string) => ({
    pathSpecifier: {
      case: "pathMatchPolicy",
      value: { name: "t", typedConfig: pack(UriTemplateMatchConfigSchema, { pathTemplate }) },
    } as const,
  });
  const header = (headerMatchSpecifier: object, more: object = {}) =>
    ({ headers: [{ name: "X-A", headerMatchSpecifier, ...more }] }) as MatchInit;
  const range = header({ case: "rangeMatch", value: { start: 1n, end: 10n } });
  const cases: [string, MatchInit, string, Record<string, string>, boolean][] = [
    ["path", { pathSpecifier: { case: "path", value: "/a" } }, "/a?x", {}, true],
    ["path in other case", { pathSpecifier: { case: "path", value: "/A" } }, "/a", {}, false],
    ["path in any case", { pathSpecifier: { case: "path", value: "/A" }, caseSensitive: false }, "/a", {}, true],
    ["prefix by segments", { pathSpecifier: { case: "pathSeparatedPrefix", value: "/a" } }, "/ab", {}, false],
    ["prefix by segments, longer", { pathSpecifier: { case: "pathSeparatedPrefix", value: "/a" } }, "/a/b", {}, true],
    ["expression", { pathSpecifier: { case: "safeRegex", value: { regex: "/a.*" } } }, "/abc?d", {}, true],
    [
      "expression, always by case",
      { pathSpecifier: { case: "safeRegex", value: { regex: "/A" } }, caseSensitive: false },
      "/a",
      {},
      false,
    ],
    ["template", template("/u/{id}"), "/u/7", {}, true],
    ["other template", template("/u/{id}"), "/u/7/x", {}, false],
    ["exact", text(exact("v")), "/", { "x-a": "v" }, true],
    ["exact in any case", text({ ...exact("V"), ignoreCase: true }), "/", { "x-a": "v" }, true],
    ["suffix", text({ matchPattern: { case: "suffix", value: "z" } }), "/", { "x-a": "xyz" }, true],
    ["contains", text({ matchPattern: { case: "contains", value: "y" } }), "/", { "x-a": "xyz" }, true],
    [
      "expression on a field",
      text({ matchPattern: { case: "safeRegex", value: { regex: "y" } } }),
      "/",
      { "x-a": "xyz" },
      false,
    ],
    ["method", text(exact("PUT"), ":method"), "/", { method: "PUT" }, true],
    ["present", header({ case: "presentMatch", value: true }), "/", { "x-a": "" }, true],
    ["not present", header({ case: "presentMatch", value: false }), "/", {}, true],
    ["present, inverted", header({ case: "presentMatch", value: true }, { invertMatch: true }), "/", {}, true],
    ["in range", range, "/", { "x-a": "9" }, true],
    ["at the range's end", range, "/", { "x-a": "10" }, false],
    ["no number", range, "/", { "x-a": "9a" }, false],
    [
      "other value, inverted",
      header({ case: "stringMatch", value: exact("v") }, { invertMatch: true }),
      "/",
      { "x-a": "w" },
      true,
    ],
    ["missing, inverted", header({ case: "stringMatch", value: exact("v") }, { invertMatch: true }), "/", {}, false],
    [
      "missing as empty, inverted",
      header({ case: "stringMatch", value: exact("v") }, { invertMatch: true, treatMissingHeaderAsEmpty: true }),
      "/",
      {},
      true,
    ],
    ["query present", { queryParameters: [{ name: "q" }] }, "/?q", {}, true],
    ["query absent", { queryParameters: [{ name: "q" }] }, "/?r", {}, false],
    ["gRPC", { grpc: {} }, "/", { "content-type": "application/grpc+proto" }, true],
    ["not gRPC", { grpc: {} }, "/", { "content-type": "application/grpc-web" }, false],
    ["a share of nothing", { runtimeFraction: { defaultValue: { numerator: 0 } } }, "/", {}, false],
    ["a share of all", { runtimeFraction: { defaultValue: { numerator: 100 } } }, "/", {}, true],
    ["a certificate", { tlsContext: { presented: true } }, "/", {}, false],
  ];
  for (const [name, init, target, fields, want] of cases)
    test(`${name}: ${want ? "holds" : "does not hold"}`, () => {
      const table = tableOf([{ match: { ...prefix, ...init } as MatchInit, action: to("a") }]);
      expect(routeOf(table, requestOf(target, fields)) !== undefined).toBe(want);
    });

  test("a certificate counts as presented and validated when the peer has proved itself", () => {
    const table = tableOf([
      { match: { ...prefix, tlsContext: { presented: true, validated: true } }, action: to("a") },
    ]);
    const proved = { secure: true, peer: { identity: unknownWorkload, authenticated: true } };
    expect(routeOf(table, requestOf("/", {}, proved))).toBeDefined();
    expect(routeOf(table, requestOf("/", {}, { secure: true }))).toBeUndefined();
  });
});

describe("a redirect", () => {
  type Redirect = MessageInitShape<typeof RedirectActionSchema>;
  const path = (value: string) => ({ pathRewriteSpecifier: { case: "pathRedirect", value } }) as const;
  const https = { schemeRewriteSpecifier: { case: "httpsRedirect", value: true } } as const;
  const cases: [Redirect, string, Record<string, string>, string][] = [
    [https, "/x?y", {}, "https://shop.test:8080/x?y"],
    [https, "/x", { host: "shop.test:80" }, "https://shop.test/x"],
    [{ ...https, portRedirect: 443 }, "/x", {}, "https://shop.test:443/x"],
    [{ ...https, hostRedirect: "new.test" }, "/x", {}, "https://new.test/x"],
    [{ hostRedirect: "new.test:80", ...https }, "/", {}, "https://new.test:80/"],
    [{ schemeRewriteSpecifier: { case: "schemeRedirect", value: "ws" } }, "/", {}, "ws://shop.test:8080/"],
    [{ portRedirect: 9 }, "/", { host: "[::1]:80" }, "http://[::1]:9/"],
    [path("/new"), "/x?y=1", {}, "http://shop.test:8080/new?y=1"],
    [{ ...path("/new"), stripQuery: true }, "/x?y=1", {}, "http://shop.test:8080/new"],
    [{ ...path("/new?z=2"), stripQuery: true }, "/x?y=1", {}, "http://shop.test:8080/new?z=2"],
    [{ pathRewriteSpecifier: { case: "prefixRewrite", value: "/p/" } }, "/x?y", {}, "http://shop.test:8080/p/x?y"],
    [
      {
        pathRewriteSpecifier: {
          case: "regexRewrite",
          value: { pattern: { regex: "^/(.)(.)" }, substitution: "/\\2\\1" },
        },
      },
      "/xy?z",
      {},
      "http://shop.test:8080/yx?z",
    ],
  ];
  for (const [redirect, target, fields, want] of cases)
    test(`of ${fields["host"] ?? ""}${target} leads to ${want}`, () => {
      const table = tableOf([{ match: prefix, action: { case: "redirect", value: redirect } }]);
      const request = requestOf(target, fields);
      const action = routeOf(table, request)?.action;
      expect(action?.kind === "redirect" && action.location(request)).toBe(want);
    });
});

describe("a rewrite", () => {
  const forward = (more: object, match: MatchInit = prefix) => {
    const { action } = tableOf([{ match, action: to("a", more) }]).host(0).routes[0]!;
    if (action.kind !== "forward") throw new Error("not a forward action");
    return action;
  };
  const template = (pathTemplate: string) =>
    ({
      pathSpecifier: {
        case: "pathMatchPolicy",
        value: { name: "t", typedConfig: pack(UriTemplateMatchConfigSchema, { pathTemplate }) },
      },
    }) as MatchInit;
  const paths: [object, MatchInit, string, string][] = [
    [{ prefixRewrite: "/new" }, { pathSpecifier: { case: "prefix", value: "/old" } }, "/old/x?y", "/new/x?y"],
    [{ prefixRewrite: "/" }, { pathSpecifier: { case: "pathSeparatedPrefix", value: "/old" } }, "/old", "/"],
    [{ prefixRewrite: "/new" }, { pathSpecifier: { case: "path", value: "/old" } }, "/old?y", "/new?y"],
    [{ regexRewrite: { pattern: { regex: "/" }, substitution: "$" } }, prefix, "/a/b?c/d", "$a$b?c/d"],
    [
      {
        pathRewritePolicy: {
          name: "t",
          typedConfig: pack(UriTemplateRewriteConfigSchema, { pathTemplateRewrite: "/{b}/{a}" }),
        },
      },
      template("/{a}/x/{b}"),
      "/1/x/2?q",
      "/2/1?q",
    ],
  ];
  for (const [more, match, path, want] of paths)
    test(`of ${path} is ${want}`, () => expect(forward(more, match).rewritePath!(path)).toBe(want));

  const hosts: [object, string | undefined][] = [
    [{ case: "hostRewriteLiteral", value: "lit.test" }, "lit.test"],
    [{ case: "hostRewriteHeader", value: "X-Host" }, "field.test"],
    [{ case: "hostRewriteHeader", value: "x-none" }, undefined],
    [
      { case: "hostRewritePathRegex", value: { pattern: { regex: "^/([^/]+)/.*$" }, substitution: "\\1.test" } },
      "seg.test",
    ],
  ];
  for (const [hostRewriteSpecifier, want] of hosts)
    test(`of the host by ${JSON.stringify(hostRewriteSpecifier)} is ${want}`, () => {
      const rewrite = forward({ hostRewriteSpecifier }).targets[0]!.hostRewrite;
      const request = requestOf("/seg/x", { "x-host": "field.test" });
      expect(typeof rewrite === "function" ? rewrite(request) : rewrite).toBe(want);
    });
});

describe("the target", () => {
  const weighted = (clusters: object[], more: object = {}): RouteInit => ({
    match: prefix,
    action: {
      case: "route",
      value: { clusterSpecifier: { case: "weightedClusters", value: { clusters, ...more } } } as ActionInit,
    },
  });
  const chosen = (route: RouteInit, fields: Record<string, string>): string | undefined => {
    const request = requestOf("/", fields);
    const action = routeOf(tableOf([route]), request)!.action;
    return action.kind === "forward" ? pickTarget(action, request, seededRandom(1))?.slot.name : undefined;
  };
  const byHeader: RouteInit = {
    match: prefix,
    action: { case: "route", value: { clusterSpecifier: { case: "clusterHeader", value: "X-To" } } },
  };
  test("may be named by a field, if there is such a cluster", () => {
    expect([chosen(byHeader, { "x-to": "b" }), chosen(byHeader, { "x-to": "z" }), chosen(byHeader, {})]).toEqual([
      "b",
      undefined,
      undefined,
    ]);
  });
  test("may be chosen by a number in a field", () => {
    const route = weighted(
      [
        { name: "a", weight: 30 },
        { clusterHeader: "x-to", weight: 70 },
      ],
      {
        randomValueSpecifier: { case: "headerName", value: "x-number" },
      },
    );
    const by = (number: string) => chosen(route, { "x-number": number, "x-to": "b" });
    expect([by("0"), by("29"), by("30"), by("99"), by("100"), by("130")]).toEqual(["a", "a", "b", "b", "a", "b"]);
  });
  test("cannot be chosen when no weight is above 0", () => {
    expect(() => tableOf([weighted([{ name: "a" }, { name: "b" }])])).toThrow("add up to 0");
  });
});

describe("header rules", () => {
  const add = (value: string) => ({ requestHeadersToAdd: [{ header: { key: "x", value } }] });
  const order = (mostSpecificHeaderMutationsWins: boolean): string[] => {
    const route = {
      match: prefix,
      ...add("route"),
      action: {
        case: "route",
        value: {
          clusterSpecifier: {
            case: "weightedClusters",
            value: { clusters: [{ name: "a", weight: 1, ...add("cluster") }] },
          },
        },
      },
    } as RouteInit;
    const { action } = tableOf([], {
      ...add("table"),
      mostSpecificHeaderMutationsWins,
      virtualHosts: [{ name: "h", domains: ["*"], routes: [route], ...add("host") }],
    } as ConfigurationInit).host(0).routes[0]!;
    return action.kind === "forward"
      ? action.targets[0]!.requestHeaders.map(({ add: [one] }) => one!.value as string)
      : [];
  };
  test("apply from the inside out, or from the outside in when the most specific is to win", () => {
    expect(order(false)).toEqual(["cluster", "route", "host", "table"]);
    expect(order(true)).toEqual(["table", "host", "route", "cluster"]);
  });
});

test("a direct response is at most as long as the table allows", () => {
  const say = (length: number): RouteInit => ({
    match: prefix,
    action: {
      case: "directResponse",
      value: { status: 200, body: { specifier: { case: "inlineString", value: "x".repeat(length) } } },
    },
  });
  expect(() => tableOf([say(4096)])).not.toThrow();
  expect(() => tableOf([say(4097)])).toThrow("longer than 4096");
  expect(() =>
    tableOf([], {
      maxDirectResponseBodySizeBytes: 5000,
      virtualHosts: [{ name: "h", domains: ["*"], routes: [say(5000)] }],
    } as ConfigurationInit),
  ).not.toThrow();
});
