// Seeded configurations and requests for the agreement of explanation and traffic: overlapping rules of every kind, as YAML a person can read.

import { stringify } from "yaml";
import { testKeySet, tokenOf } from "../../src/explain/tokens.ts";
import type { Random } from "../../src/kernel/random.ts";

export interface Case {
  /** What `kubectl apply` would be given, without the base. */
  yaml: string;
  requests: CaseRequest[];
}

export interface CaseRequest {
  /** "outside", or a pod's name. */
  from: string;
  method: string;
  /** Host and port as in the URL. */
  host: string;
  /** With query. */
  path: string;
  headers: [string, string][];
}

type Fields = Record<string, unknown>;

/** Tokens are good from now on for an hour: the proxies live in real time. */
const nowMs = Date.now();

const paths = [
  "/",
  "/cart",
  "/cart/",
  "/cart/7",
  "/api",
  "/api/v1/items",
  "/api/v2",
  "/Cart",
  "/a b".replace(" ", "%20"),
  "/old/thing",
  "/x.html",
];
const authorizations = [
  tokenOf({ iss: "good", sub: "alice", role: "admin" }, nowMs),
  tokenOf({ iss: "good", sub: "bob", role: ["user"] }, nowMs),
  tokenOf({ iss: "bad", sub: "alice" }, nowMs),
  tokenOf({ iss: "good", sub: "alice", exp: 1 }, nowMs),
  `${tokenOf({ iss: "good", sub: "alice" }, nowMs)}x`,
].map((token) => ["authorization", `Bearer ${token}`] as const);
const queries = ["", "", "", "?v=2", "?debug", "?v=2&debug=1"];
const methods = ["GET", "GET", "GET", "POST", "DELETE", "HEAD"];
const edgeHosts = ["shop.test", "api.shop.test", "www.shop.test", "other.test", "SHOP.test", "shop.test:80"];
const meshHosts = ["web", "web.a", "web.a.svc.cluster.local", "api.b", "api.b.svc.cluster.local", "web.a:80"];
const headerValues: readonly (readonly [string, string])[] = [
  ["x-user", "jason"],
  ["x-user", "jane"],
  ["x-group", "beta"],
  ["x-group", "beta-2"],
  ["x-empty", "yes"],
  ["cookie", "session=1"],
];

/** Draws from lists and by chance. */
class Draw {
  readonly #random: Random;
  constructor(random: Random) {
    this.#random = random;
  }
  one<T>(list: readonly T[]): T {
    return list[this.#random.below(list.length)]!;
  }
  chance(share: number): boolean {
    return this.#random.next() < share;
  }
  between(low: number, high: number): number {
    return low + this.#random.below(high - low + 1);
  }
  some<T>(count: number, make: (index: number) => T): T[] {
    return Array.from({ length: count }, (_, index) => make(index));
  }
}

export function generate(random: Random, requestCount: number): Case {
  const draw = new Draw(random);
  const objects = [
    ...gateways(draw),
    ...virtualServices(draw),
    ...destinationRules(draw),
    ...policies(draw),
    ...peers(draw),
    ...httpRoutes(draw),
    ...tokens(draw),
  ];
  const yaml = objects.map((object) => stringify(object, { lineWidth: 0, aliasDuplicateObjects: false })).join("---\n");
  return { yaml, requests: draw.some(requestCount, () => request(draw)) };
}

const istio = (kind: string, namespace: string, name: string, spec: Fields): Fields => ({
  apiVersion: `${kind.endsWith("Policy") || kind.endsWith("Authentication") ? "security" : "networking"}.istio.io/v1`,
  kind,
  metadata: { name, namespace },
  spec,
});

// ---- gateways ----

function gateways(draw: Draw): Fields[] {
  const server = (hosts: string[], more: Fields = {}) => ({
    port: { number: 80, name: `http-${hosts.length}`, protocol: "HTTP" },
    hosts,
    ...more,
  });
  const first = draw.chance(0.5)
    ? ["*"]
    : draw.chance(0.5)
      ? ["*.shop.test", "shop.test"]
      : ["a/shop.test", "*/api.shop.test"];
  const made = [istio("Gateway", "a", "edge", { selector: { istio: "gateway" }, servers: [server(first)] })];
  if (draw.chance(0.3)) {
    const tls = draw.chance(0.3) ? { tls: { httpsRedirect: true } } : {};
    made.push(
      istio("Gateway", "b", "second", { selector: { istio: "gateway" }, servers: [server(["other.test"], tls)] }),
    );
  }
  return made;
}

// ---- routes ----

function virtualServices(draw: Draw): Fields[] {
  const made: Fields[] = [];
  const count = draw.between(1, 5);
  for (let index = 0; index < count; index++) {
    const namespace = draw.one(["a", "a", "b"]);
    const atEdge = draw.chance(0.6);
    const hosts = atEdge
      ? [
          ...new Set(
            draw.some(draw.between(1, 2), () =>
              draw.one(["shop.test", "*.shop.test", "api.shop.test", "other.test", "*"]),
            ),
          ),
        ]
      : [
          draw.one(
            namespace === "a"
              ? ["web", "web.a.svc.cluster.local", "api.b.svc.cluster.local"]
              : ["api", "api.b.svc.cluster.local"],
          ),
        ];
    // "*" is no host for sidecars.
    const names = hosts.includes("*") ? ["*"] : hosts;
    const bound = atEdge
      ? [draw.one(["a/edge", "a/edge", "b/second"]), ...(draw.chance(0.2) ? ["b/second"] : [])]
      : undefined;
    const gatewayNames = bound && [...new Set(draw.chance(0.15) && names[0] !== "*" ? [...bound, "mesh"] : bound)];
    const name = `vs-${index}`;
    const delegates = draw.chance(0.15);
    made.push(
      istio("VirtualService", namespace, name, {
        hosts: names,
        ...(gatewayNames && { gateways: gatewayNames }),
        http: rules(draw, name, gatewayNames, delegates ? `${name}-inner` : undefined),
      }),
    );
    if (delegates)
      made.push(
        istio("VirtualService", namespace, `${name}-inner`, {
          http: rules(draw, `${name}-inner`, undefined, undefined),
        }),
      );
  }
  return made;
}

function rules(
  draw: Draw,
  owner: string,
  gatewayNames: readonly string[] | undefined,
  delegate: string | undefined,
): Fields[] {
  const made = draw.some(draw.between(1, 4), (index): Fields => {
    const match = draw.some(draw.between(index === 0 ? 1 : 0, 3), () => matchOf(draw, gatewayNames));
    return { name: `${owner}-${index}`, ...(match.length > 0 && { match }), ...action(draw) };
  });
  if (delegate !== undefined)
    made.unshift({
      name: `${owner}-to`,
      match: [{ uri: { prefix: draw.one(["/", "/api", "/cart"]) } }],
      delegate: { name: delegate },
    });
  return made;
}

function matchOf(draw: Draw, gatewayNames: readonly string[] | undefined): Fields {
  const match: Fields = {};
  if (draw.chance(0.7)) {
    match["uri"] = draw.one<Fields>([
      { exact: draw.one(["/", "/cart", "/api", "/cart/7"]) },
      { prefix: draw.one(["/", "/cart", "/api", "/api/v1", "/c"]) },
      { regex: draw.one(["/(cart|old).*", "/api/v[0-9]+", ".*\\.html", "/cart"]) },
    ]);
    if (draw.chance(0.15)) match["ignoreUriCase"] = true;
  }
  if (draw.chance(0.2))
    match["method"] = draw.one<Fields>([{ exact: "GET" }, { exact: "POST" }, { regex: "GET|HEAD" }]);
  if (draw.chance(0.3)) match["headers"] = headerMatch(draw);
  if (draw.chance(0.12)) match["withoutHeaders"] = headerMatch(draw);
  if (draw.chance(0.12))
    match["queryParams"] = draw.one<Fields>([
      { v: { exact: "2" } },
      { debug: {} },
      { v: { regex: "[0-9]" } },
      { debug: { exact: "" } },
    ]);
  if (draw.chance(0.1))
    match["authority"] = draw.one<Fields>([
      { exact: "shop.test" },
      { prefix: "api" },
      { prefix: "web" },
      { regex: "(www\\.)?shop\\.test" },
    ]);
  if (draw.chance(0.06)) match["scheme"] = { exact: draw.one(["http", "https"]) };
  if (draw.chance(0.06)) match["port"] = draw.one([80, 443]);
  if (draw.chance(0.08)) match["sourceLabels"] = { app: draw.one(["client", "other"]) };
  if (draw.chance(0.06)) match["sourceNamespace"] = draw.one(["a", "b"]);
  if (gatewayNames !== undefined && draw.chance(0.1)) match["gateways"] = [draw.one(gatewayNames)];
  return match;
}

const headerMatch = (draw: Draw): Fields =>
  draw.one<Fields>([
    { "x-user": { exact: "jason" } },
    { "x-group": { prefix: "beta" } },
    { "x-user": { regex: "ja.*" } },
    { "x-empty": {} },
    { "x-user": { exact: "jane" }, "x-group": { exact: "beta" } },
    { cookie: { regex: ".*session=1.*" } },
  ]);

const hostsKnown = ["web.a.svc.cluster.local", "api.b.svc.cluster.local"];

function destination(draw: Draw): Fields {
  const host = draw.chance(0.04) ? "nosuch.a.svc.cluster.local" : draw.one(hostsKnown);
  return {
    host,
    ...(draw.chance(0.4) && { subset: draw.one(["v1", "v2", "v2", "v9"]) }),
    ...(draw.chance(0.2) && { port: { number: 80 } }),
  };
}

function action(draw: Draw): Fields {
  if (draw.chance(0.1))
    return {
      redirect: draw.one<Fields>([
        { uri: "/new" },
        { authority: "www.shop.test" },
        { scheme: "https", redirectCode: 302 },
        { uri: "/moved", authority: "shop.test", port: 8443 },
      ]),
    };
  if (draw.chance(0.1))
    return { directResponse: { status: draw.one([200, 404, 418, 503]), body: { string: draw.one(["gone", "tea"]) } } };
  const count = draw.one([1, 1, 1, 2, 3]);
  const route = draw.some(
    count,
    (): Fields => ({
      destination: destination(draw),
      ...(count > 1 && { weight: draw.one([5, 30, 50, 95]) }),
      ...(draw.chance(0.15) && { headers: headerRules(draw) }),
    }),
  );
  const made: Fields = { route };
  if (draw.chance(0.2))
    made["rewrite"] = draw.one<Fields>([
      { uri: "/rewritten" },
      { uri: "/" },
      { authority: "inner.test" },
      { uri: "/both", authority: "both.test" },
      { uriRegexRewrite: { match: "/api/(.*)", rewrite: "/\\1" } },
    ]);
  if (draw.chance(0.2)) made["headers"] = headerRules(draw);
  if (draw.chance(0.15)) made["fault"] = fault(draw);
  if (draw.chance(0.1)) made["timeout"] = "5s";
  if (draw.chance(0.15))
    made["retries"] = draw.one<Fields>([{ attempts: 0 }, { attempts: 1, retryOn: "connect-failure" }]);
  if (draw.chance(0.08)) made["mirror"] = { host: draw.one(hostsKnown) };
  if (draw.chance(0.05)) made["corsPolicy"] = { allowOrigins: [{ exact: "http://here.test" }], allowMethods: ["GET"] };
  return made;
}

function fault(draw: Draw): Fields {
  const abort = { httpStatus: draw.one([400, 503, 555]), percentage: { value: draw.one([0, 50, 100, 100]) } };
  const delay = { fixedDelay: "0.001s", percentage: { value: draw.one([0, 100]) } };
  return draw.one<Fields>([{ abort }, { delay }, { abort, delay }]);
}

const headerRules = (draw: Draw): Fields => ({
  request: draw.one<Fields>([
    { set: { "x-added": "yes" } },
    { add: { "x-user": "more" } },
    { remove: ["x-user"] },
    { set: { "x-group": "forced", Host: "host.test" }, remove: ["cookie"] },
  ]),
});

function destinationRules(draw: Draw): Fields[] {
  const subsets = (names: readonly string[]): Fields[] => names.map((name) => ({ name, labels: { version: name } }));
  const made: Fields[] = [];
  for (const [namespace, host] of [
    ["a", "web.a.svc.cluster.local"],
    ["b", "api.b.svc.cluster.local"],
  ] as const) {
    if (!draw.chance(0.75)) continue;
    const names = draw.one([["v1", "v2"], ["v1", "v2"], ["v1"], ["v2", "v3"]]);
    const balancer = draw.one<Fields>([
      {},
      { trafficPolicy: { loadBalancer: { simple: "ROUND_ROBIN" } } },
      { trafficPolicy: { loadBalancer: { simple: "RANDOM" } } },
      { trafficPolicy: { loadBalancer: { consistentHash: { httpHeaderName: "x-user" } } } },
    ]);
    made.push(
      istio("DestinationRule", namespace, `rule-${namespace}`, {
        host,
        ...balancer,
        subsets: subsets(names),
        ...(draw.chance(0.1) && { exportTo: ["."] }),
      }),
    );
  }
  return made;
}

/** Of the mesh: bound to a Service. */
function httpRoutes(draw: Draw): Fields[] {
  if (!draw.chance(0.35)) return [];
  const [namespace, service] = draw.one([
    ["a", "web"],
    ["b", "api"],
  ] as const);
  const backend = (): Fields => ({ name: draw.chance(0.06) ? "nosuch" : service, port: 80, weight: draw.one([1, 3]) });
  const rules = draw.some(draw.between(1, 3), (): Fields => {
    const matches = draw.some(draw.between(0, 2), () => routeMatch(draw));
    const base = { ...(matches.length > 0 && { matches }) };
    if (draw.chance(0.15))
      return {
        ...base,
        filters: [
          { type: "RequestRedirect", requestRedirect: { hostname: "moved.test", statusCode: draw.one([301, 302]) } },
        ],
      };
    const path = draw.one<Fields>([
      { type: "ReplacePrefixMatch", replacePrefixMatch: "/new" },
      { type: "ReplaceFullPath", replaceFullPath: "/full" },
    ]);
    const filters = [
      ...(draw.chance(0.3)
        ? [
            {
              type: "RequestHeaderModifier",
              requestHeaderModifier: { set: [{ name: "x-added", value: "route" }], remove: ["x-group"] },
            },
          ]
        : []),
      // A prefix is replaced only where one was matched.
      ...(matches.length === 1 && isPrefix(matches[0]!) && draw.chance(0.4)
        ? [{ type: "URLRewrite", urlRewrite: { path } }]
        : []),
    ];
    return { ...base, ...(filters.length > 0 && { filters }), backendRefs: draw.some(draw.one([1, 1, 2]), backend) };
  });
  const parentRefs = [{ group: "", kind: "Service", name: service, port: 80 }];
  const metadata = { name: "by-service", namespace };
  return [{ apiVersion: "gateway.networking.k8s.io/v1", kind: "HTTPRoute", metadata, spec: { parentRefs, rules } }];
}

const isPrefix = ({ path }: Fields): boolean => (path as { type?: string } | undefined)?.type === "PathPrefix";

function routeMatch(draw: Draw): Fields {
  const match: Fields = {};
  if (draw.chance(0.8))
    match["path"] = draw.one<Fields>([
      { type: "PathPrefix", value: draw.one(["/", "/cart", "/api", "/api/v1"]) },
      { type: "Exact", value: draw.one(["/cart", "/api/v2"]) },
      { type: "RegularExpression", value: "/(cart|old).*" },
    ]);
  if (draw.chance(0.3)) match["headers"] = [{ name: "X-User", value: draw.one(["jason", "jane"]) }];
  if (draw.chance(0.2)) match["method"] = draw.one(["GET", "POST"]);
  if (draw.chance(0.15)) match["queryParams"] = [{ name: "v", value: "2" }];
  return match;
}

// ---- policies ----

/** Keys that the generated tokens are signed with. */
function tokens(draw: Draw): Fields[] {
  if (!draw.chance(0.25)) return [];
  const namespace = draw.one(["a", "b", "istio-system"]);
  const selector = namespace === "istio-system" ? { selector: { matchLabels: { istio: "gateway" } } } : {};
  const made = [
    istio("RequestAuthentication", namespace, "jwt", {
      ...selector,
      jwtRules: [{ issuer: "good", jwks: testKeySet, forwardOriginalToken: draw.chance(0.5) }],
    }),
  ];
  if (draw.chance(0.5)) {
    const from = [{ source: { requestPrincipals: [draw.one(["*", "good/alice"])] } }];
    const when = [{ key: "request.auth.claims[role]", values: ["admin"] }];
    made.push(
      istio("AuthorizationPolicy", namespace, "signed-in", {
        ...selector,
        rules: [{ from, ...(draw.chance(0.4) && { when }) }],
      }),
    );
  }
  return made;
}

function policies(draw: Draw): Fields[] {
  return draw.some(draw.one([0, 0, 1, 1, 2, 3]), (index): Fields => {
    const namespace = draw.one(["a", "a", "b", "istio-system"]);
    const selector =
      namespace === "istio-system"
        ? { istio: "gateway" }
        : draw.chance(0.5)
          ? draw.one<Fields>([{ version: "v1" }, { version: "v2" }, { app: namespace === "a" ? "web" : "api" }])
          : undefined;
    const rulesOf = draw.some(draw.between(draw.chance(0.9) ? 1 : 0, 2), () => policyRule(draw));
    return istio("AuthorizationPolicy", namespace, `policy-${index}`, {
      ...(selector && { selector: { matchLabels: selector } }),
      action: draw.one(["ALLOW", "ALLOW", "DENY", "AUDIT"]),
      rules: rulesOf,
    });
  });
}

function policyRule(draw: Draw): Fields {
  const rule: Fields = {};
  if (draw.chance(0.5))
    rule["from"] = [
      {
        source: draw.one<Fields>([
          { principals: ["cluster.local/ns/a/sa/client"] },
          { principals: ["*"] },
          { namespaces: [draw.one(["a", "b", "istio-system"])] },
          { notNamespaces: ["b"] },
          { notPrincipals: ["cluster.local/ns/b/sa/other"] },
          { principals: ["cluster.local/ns/istio-system/sa/gateway"], namespaces: ["istio-system"] },
          { ipBlocks: ["127.11.0.0/24"] },
          { remoteIpBlocks: ["127.0.0.0/16"] },
        ]),
      },
    ];
  if (draw.chance(0.7))
    rule["to"] = draw.some(draw.between(1, 2), () => ({
      operation: draw.one<Fields>([
        { paths: [draw.one(["/cart", "/cart/*", "/api*", "*.html", "*"])] },
        { methods: [draw.one(["GET", "POST"])] },
        { methods: ["GET", "HEAD"], notPaths: ["/api*"] },
        { hosts: [draw.one(["shop.test", "*.shop.test", "web*", "*.cluster.local"])] },
        { paths: ["/{*}/{**}"] },
        { ports: [draw.one(["80", "8080"])] },
        { notMethods: ["DELETE"] },
      ]),
    }));
  if (draw.chance(0.2))
    rule["when"] = [
      draw.one<Fields>([
        { key: "request.headers[x-user]", values: ["ja*"] },
        { key: "request.headers[x-group]", notValues: ["beta"] },
        { key: "source.namespace", values: ["a"] },
        { key: "destination.port", values: ["8080"] },
      ]),
    ];
  return rule;
}

const peers = (draw: Draw): Fields[] =>
  draw.chance(0.2)
    ? [
        istio("PeerAuthentication", draw.one(["a", "b", "istio-system"]), "default", {
          mtls: { mode: draw.one(["STRICT", "PERMISSIVE"]) },
        }),
      ]
    : [];

// ---- requests ----

function request(draw: Draw): CaseRequest {
  const from = draw.one(["outside", "outside", "client", "other"]);
  // A short name is a name of the caller's own namespace.
  const inside = from === "client" ? meshHosts : meshHosts.filter((name) => name !== "web");
  const host = draw.one(from === "outside" ? edgeHosts : inside);
  const headers = draw.some(draw.one([0, 0, 1, 2]), () => [...draw.one(headerValues)] as [string, string]);
  if (draw.chance(0.15)) headers.push([...draw.one(authorizations)]);
  const unique = headers.filter(([name], index) => headers.findIndex(([other]) => other === name) === index);
  return { from, method: draw.one(methods), host, path: draw.one(paths) + draw.one(queries), headers: unique };
}
