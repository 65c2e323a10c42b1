// RBAC as a table: every kind of permission and principal, the three actions, and connections without HTTP.
import { describe, expect, test } from "bun:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { RBAC_Action as Action, RBACSchema } from "#gen/xds/envoy/config/rbac/v3/rbac_pb.js";
import { UriTemplateMatchConfigSchema } from "#gen/xds/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";
import type { ConnectionInfo } from "../chain.ts";
import { unknownWorkload } from "../clusters/cluster.ts";
import { exact, pack } from "../fixture.ts";
import type { RequestView } from "../http/request.ts";
import { holderNames } from "../tls/alt_names.ts";
import { compilePolicies, decide, type Subject } from "./rbac_policy.ts";

type Init = MessageInitShape<typeof RBACSchema>;
type PolicyInit = NonNullable<Init["policies"]>[string];
type Permission = NonNullable<PolicyInit["permissions"]>[number];
type Principal = NonNullable<PolicyInit["principals"]>[number];

const prefixed = (value: string) => ({ matchPattern: { case: "prefix", value } }) as const;
const cidr = (addressPrefix: string, prefixLen: number) => ({ addressPrefix, prefixLen });
const anyone: Principal = { identifier: { case: "any", value: true } };
const anything: Permission = { rule: { case: "any", value: true } };

const spiffe = "spiffe://cluster.local/ns/shop/sa/web";
const fields: Record<string, string> = { ":method": "GET", ":authority": "api.test", "x-team": "blue" };
const connection: ConnectionInfo = {
  remoteAddress: "10.1.2.3",
  remotePort: 4000,
  localAddress: "10.2.0.9",
  localPort: 8080,
  secure: true,
  serverName: "outer.test",
  peer: { identity: { ...unknownWorkload, principal: spiffe }, authenticated: true },
};
const metadata: Record<string, unknown> = {
  "envoy.filters.http.jwt_authn": { payload: { iss: "issuer", groups: ["dev", "ops"], level: 3, admin: true } },
};
const http: Subject = {
  request: {
    pathOnly: "/users/7/orders",
    path: "/users/7/orders?x=1",
    header: (name: string) => fields[name],
  } as RequestView,
  connection,
  remoteAddress: "203.0.113.7",
  metadata: (name) => metadata[name],
  filterState: (key) => (key === "custom" ? "value" : undefined),
};
const tcp: Subject = {
  ...http,
  request: undefined,
  remoteAddress: connection.remoteAddress,
  metadata: () => undefined,
};
const stranger: Subject = {
  ...http,
  connection: { ...connection, peer: { identity: unknownWorkload, authenticated: false } },
};

const allowed = (permission: Permission, principal: Principal, subject: Subject, action = Action.ALLOW): boolean =>
  decide(
    compilePolicies(
      create(RBACSchema, { action, policies: { p: { permissions: [permission], principals: [principal] } } }),
    ),
    subject,
  ).allowed;

const jwt = (path: string[], value: object) =>
  ({
    case: "metadata",
    value: {
      filter: "envoy.filters.http.jwt_authn",
      path: path.map((key) => ({ segment: { case: "key", value: key } as const })),
      value: { matchPattern: value },
    },
  }) as Permission["rule"];

describe("permissions", () => {
  const template = (pathTemplate: string) => ({
    name: "uri",
    typedConfig: pack(UriTemplateMatchConfigSchema, { pathTemplate }),
  });
  const method = (value: string): Permission => ({
    rule: {
      case: "header",
      value: { name: ":method", headerMatchSpecifier: { case: "stringMatch", value: exact(value) } },
    },
  });
  const path = (matcher: ReturnType<typeof exact> | ReturnType<typeof prefixed>): Permission => ({
    rule: { case: "urlPath", value: { rule: { case: "path", value: matcher } } },
  });
  const cases: [string, Permission, boolean, boolean][] = [
    ["any", anything, true, true],
    ["method GET", method("GET"), true, false],
    ["method POST", method("POST"), false, false],
    ["not method POST", { rule: { case: "notRule", value: method("POST") } }, true, true],
    ["path without its query", path(exact("/users/7/orders")), true, false],
    ["path prefix", path(prefixed("/admin")), false, false],
    ["URI template", { rule: { case: "uriTemplate", value: template("/users/*/orders") } }, true, false],
    ["other URI template", { rule: { case: "uriTemplate", value: template("/users/*") } }, false, false],
    ["destination range", { rule: { case: "destinationIp", value: cidr("10.2.0.0", 16) } }, true, true],
    ["other destination", { rule: { case: "destinationIp", value: cidr("10.3.0.0", 16) } }, false, false],
    ["port", { rule: { case: "destinationPort", value: 8080 } }, true, true],
    [
      "port range without its end",
      { rule: { case: "destinationPortRange", value: { start: 80, end: 8080 } } },
      false,
      false,
    ],
    [
      "port range with its start",
      { rule: { case: "destinationPortRange", value: { start: 8080, end: 8081 } } },
      true,
      true,
    ],
    ["server name", { rule: { case: "requestedServerName", value: exact("outer.test") } }, true, true],
    ["both", { rule: { case: "andRules", value: { rules: [method("GET"), path(prefixed("/admin"))] } } }, false, false],
    ["either", { rule: { case: "orRules", value: { rules: [method("GET"), path(prefixed("/admin"))] } } }, true, false],
    ["claim", { rule: jwt(["payload", "iss"], { case: "stringMatch", value: exact("issuer") }) }, true, false],
    [
      "claim that is a list",
      {
        rule: jwt(["payload", "groups"], {
          case: "listMatch",
          value: {
            matchPattern: { case: "oneOf", value: { matchPattern: { case: "stringMatch", value: exact("ops") } } },
          },
        }),
      },
      true,
      false,
    ],
    [
      "number in range",
      {
        rule: jwt(["payload", "level"], {
          case: "doubleMatch",
          value: { matchPattern: { case: "range", value: { start: 1, end: 3 } } },
        }),
      },
      false,
      false,
    ],
    ["absent claim", { rule: jwt(["payload", "toString"], { case: "presentMatch", value: true }) }, false, false],
  ];
  for (const [name, permission, onHttp, onTcp] of cases)
    test(`${name}: ${onHttp ? "holds" : "does not hold"} for the request, ${onTcp ? "holds" : "does not hold"} for a bare connection`, () => {
      expect([allowed(permission, anyone, http), allowed(permission, anyone, tcp)]).toEqual([onHttp, onTcp]);
    });
});

const partner: Subject = {
  ...http,
  connection: { ...connection, peer: { identity: unknownWorkload, authenticated: false, names: ["api.partner.test"] } },
};

describe("principals", () => {
  const by = (identifier: Principal["identifier"]): Principal => ({ identifier });
  const peer = (name: string) => by({ case: "authenticated", value: { principalName: exact(name) } });
  const state = (key: string, value: string) =>
    by({ case: "filterState", value: { key, matcher: { case: "stringMatch", value: exact(value) } } });
  const cases: [string, Principal, Subject, boolean][] = [
    ["its own name", peer(spiffe), http, true],
    ["another name", peer("spiffe://cluster.local/ns/shop/sa/other"), http, false],
    ["a name not proved", peer(spiffe), stranger, false],
    ["the name unknown, not proved", peer("unknown"), stranger, false],
    ["anybody proved", by({ case: "authenticated", value: {} }), http, true],
    ["a DNS name of a verified certificate", peer("api.partner.test"), partner, true],
    ["another name than the certificate's", peer("unknown"), partner, false],
    ["anybody proved, with a certificate", by({ case: "authenticated", value: {} }), partner, true],
    ["anybody proved, of a stranger", by({ case: "authenticated", value: {} }), stranger, false],
    ["Istio's peer principal", state("io.istio.peer_principal", spiffe), http, true],
    ["Istio's peer principal, of a stranger", state("io.istio.peer_principal", "unknown"), stranger, false],
    ["other filter state", state("custom", "value"), http, true],
    ["the peer's address", by({ case: "directRemoteIp", value: cidr("10.1.0.0", 16) }), http, true],
    ["the peer's address, old form", by({ case: "sourceIp", value: cidr("203.0.113.0", 24) }), http, false],
    ["the first sender's address", by({ case: "remoteIp", value: cidr("203.0.113.0", 24) }), http, true],
    [
      "not the first sender's address",
      by({ case: "notId", value: by({ case: "remoteIp", value: cidr("203.0.113.0", 24) }) }),
      http,
      false,
    ],
    [
      "a header",
      by({
        case: "header",
        value: { name: "X-Team", headerMatchSpecifier: { case: "stringMatch", value: exact("blue") } },
      }),
      http,
      true,
    ],
    ["both", by({ case: "andIds", value: { ids: [peer(spiffe), by({ case: "any", value: true })] } }), http, true],
    ["neither", by({ case: "orIds", value: { ids: [peer("a"), peer("b")] } }), http, false],
  ];
  for (const [name, principal, subject, want] of cases)
    test(`${name} ${want ? "holds" : "does not hold"}`, () => expect(allowed(anything, principal, subject)).toBe(want));
});

describe("the decision", () => {
  const policy = (principal: Principal): PolicyInit => ({ permissions: [anything], principals: [principal] });
  const nobody: Principal = { identifier: { case: "notId", value: anyone } };
  const of = (action: Action, policies: Record<string, PolicyInit>) =>
    decide(compilePolicies(create(RBACSchema, { action, policies })), http);

  test("ALLOW lets through what a policy matches and names it, the first by name", () => {
    expect(of(Action.ALLOW, { b: policy(anyone), a: policy(anyone), 0: policy(nobody) })).toEqual({
      allowed: true,
      policy: "a",
    });
    expect(of(Action.ALLOW, { a: policy(nobody) })).toEqual({ allowed: false, policy: "" });
    expect(of(Action.ALLOW, {})).toEqual({ allowed: false, policy: "" });
  });
  test("DENY refuses what a policy matches", () => {
    expect(of(Action.DENY, { a: policy(anyone) })).toEqual({ allowed: false, policy: "a" });
    expect(of(Action.DENY, {})).toEqual({ allowed: true, policy: "" });
  });
  test("LOG refuses nothing", () => {
    expect(of(Action.LOG, { a: policy(anyone) })).toEqual({ allowed: true, policy: "a" });
    expect(of(Action.LOG, { a: policy(nobody) })).toEqual({ allowed: true, policy: "" });
  });
  test("what cannot be carried out is refused when the configuration arrives", () => {
    const rbac = create(RBACSchema, { policies: { odd: { permissions: [{}], principals: [anyone] } } });
    expect(() => compilePolicies(rbac)).toThrow('permission "empty"');
  });
});

test("a certificate's holder goes by its URIs, else its DNS names, else its subject", () => {
  const names = (subjectAltName: string | undefined) => holderNames({ subjectAltName, subject: "O=Partner\nCN=api" });
  expect([names("URI:spiffe://a, DNS:b"), names("DNS:b, DNS:c"), names("email:x@y"), names(undefined)]).toEqual([
    ["spiffe://a"],
    ["b", "c"],
    ["CN=api,O=Partner"],
    ["CN=api,O=Partner"],
  ]);
});
