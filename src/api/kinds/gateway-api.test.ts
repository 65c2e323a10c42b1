// Rule by rule what the Gateway API's own validation refuses, with the path, beside the same thing mended.

import { expect, test } from "bun:test";
import { problems } from "./testing.ts";

type Case = [kind: string, right: object, wrong: object, problem: string];

const gateway = (listener: object, more: object = {}) => ({
  gatewayClassName: "istio",
  listeners: [{ name: "http", port: 80, protocol: "HTTP", ...listener }],
  ...more,
});
const https = { name: "tls", port: 443, protocol: "HTTPS" };
const certificate = { certificateRefs: [{ name: "c" }] };
const backend = (more: object = {}) => ({ name: "web", port: 80, ...more });
const http = (rule: object, more: object = {}) => ({ rules: [{ backendRefs: [backend()], ...rule }], ...more });
const path = (value: string, type = "PathPrefix") => http({ matches: [{ path: { type, value } }] });
const filters = (...list: object[]) => ({ rules: [{ filters: list }] });
const redirect = (more: object) => ({ type: "RequestRedirect", requestRedirect: { scheme: "https", ...more } });
const headers = { type: "RequestHeaderModifier", requestHeaderModifier: { set: [{ name: "a", value: "1" }] } };
const mirror = (more: object) => filters({ type: "RequestMirror", requestMirror: { backendRef: backend(), ...more } });
const grpc = (method: object) => ({ rules: [{ matches: [{ method }], backendRefs: [backend()] }] });
const policy = (validation: object, more: object = {}) => ({
  targetRefs: [{ group: "", kind: "Service", name: "web" }],
  validation: { hostname: "a.test", wellKnownCACertificates: "System", ...validation },
  ...more,
});
const replacing = (type: string) => ({
  rules: [
    {
      matches: [{ path: { type, value: "/a" } }],
      filters: [{ type: "URLRewrite", urlRewrite: { path: { type: "ReplacePrefixMatch", replacePrefixMatch: "/b" } } }],
      backendRefs: [backend()],
    },
  ],
});

const cases: Case[] = [
  ["GatewayClass", { controllerName: "a.test/c" }, { controllerName: "c" }, "spec.controllerName: Invalid"],
  ["Gateway", gateway({}), { gatewayClassName: "istio", listeners: [] }, "spec.listeners: Required"],
  [
    "Gateway",
    gateway({ hostname: "*.a.test" }),
    gateway({ hostname: "a.*.test" }),
    "spec.listeners[0].hostname: Invalid",
  ],
  [
    "Gateway",
    gateway({ hostname: "a.test" }),
    gateway({ hostname: "10.0.0.1" }),
    "spec.listeners[0].hostname: Invalid",
  ],
  ["Gateway", gateway({ port: 65535 }), gateway({ port: 65536 }), "spec.listeners[0].port: Invalid"],
  ["Gateway", gateway({ name: "a.b" }), gateway({ name: "A" }), "spec.listeners[0].name: Invalid"],
  [
    "Gateway",
    gateway({ protocol: "a.test/own" }),
    gateway({ protocol: "H TTP" }),
    "spec.listeners[0].protocol: Invalid",
  ],
  [
    "Gateway",
    gateway({ ...https, tls: certificate }),
    gateway({ tls: certificate }),
    "spec.listeners[0].tls: Forbidden",
  ],
  [
    "Gateway",
    gateway({ ...https, tls: certificate }),
    gateway({ ...https, tls: { ...certificate, mode: "Passthrough" } }),
    "spec.listeners[0].tls.mode: Invalid",
  ],
  [
    "Gateway",
    gateway({ ...https, tls: certificate }),
    gateway({ ...https, tls: {} }),
    "spec.listeners[0].tls.certificateRefs: Required",
  ],
  [
    "Gateway",
    gateway({ protocol: "TLS", tls: { mode: "Passthrough" } }),
    gateway({ protocol: "TLS" }),
    "spec.listeners[0].tls: Required",
  ],
  [
    "Gateway",
    gateway({ protocol: "TCP" }),
    gateway({ protocol: "TCP", hostname: "a.test" }),
    "spec.listeners[0].hostname: Forbidden",
  ],
  [
    "Gateway",
    {
      gatewayClassName: "istio",
      listeners: [
        { name: "a", port: 80, protocol: "HTTP" },
        { name: "b", port: 81, protocol: "HTTP" },
      ],
    },
    {
      gatewayClassName: "istio",
      listeners: [
        { name: "a", port: 80, protocol: "HTTP" },
        { name: "a", port: 81, protocol: "HTTP" },
      ],
    },
    "spec.listeners[1].name: Duplicate",
  ],
  [
    "Gateway",
    {
      gatewayClassName: "istio",
      listeners: [
        { name: "a", port: 80, protocol: "HTTP", hostname: "a.test" },
        { name: "b", port: 80, protocol: "HTTP" },
      ],
    },
    {
      gatewayClassName: "istio",
      listeners: [
        { name: "a", port: 80, protocol: "HTTP" },
        { name: "b", port: 80, protocol: "HTTP" },
      ],
    },
    "spec.listeners[1]: Invalid",
  ],
  [
    "Gateway",
    gateway({}, { addresses: [{ value: "10.0.0.1" }] }),
    gateway({}, { addresses: [{ value: "gateway" }] }),
    "spec.addresses[0].value: Invalid",
  ],
  ["HTTPRoute", http({}), http({ backendRefs: [{ name: "web" }] }), "spec.rules[0].backendRefs[0].port: Required"],
  [
    "HTTPRoute",
    http({}),
    http({ backendRefs: [backend({ weight: 1_000_001 })] }),
    "spec.rules[0].backendRefs[0].weight: Invalid",
  ],
  ["HTTPRoute", path("/a"), path("a"), "spec.rules[0].matches[0].path.value: Invalid"],
  ["HTTPRoute", path("/a//b", "RegularExpression"), path("/a//b"), "spec.rules[0].matches[0].path.value: Invalid"],
  ["HTTPRoute", path("/a%20b"), path("/a b"), "spec.rules[0].matches[0].path.value: Invalid"],
  ["HTTPRoute", path("/a/b"), path("/a/.."), "spec.rules[0].matches[0].path.value: Invalid"],
  [
    "HTTPRoute",
    path("a.*", "RegularExpression"),
    path("(?=a)", "RegularExpression"),
    "spec.rules[0].matches[0].path.value: Invalid",
  ],
  [
    "HTTPRoute",
    http({
      matches: [
        {
          headers: [
            { name: "a", value: "1" },
            { name: "b", value: "1" },
          ],
        },
      ],
    }),
    http({
      matches: [
        {
          headers: [
            { name: "a", value: "1" },
            { name: "A", value: "2" },
          ],
        },
      ],
    }),
    "spec.rules[0].matches[0].headers[1].name: Duplicate",
  ],
  [
    "HTTPRoute",
    http({ matches: [{ method: "GET" }] }),
    http({ matches: [{ method: "get" }] }),
    "spec.rules[0].matches[0].method: NotSupported",
  ],
  ["HTTPRoute", filters(redirect({})), http({ filters: [redirect({})] }), "spec.rules[0].backendRefs: Forbidden"],
  ["HTTPRoute", filters(headers), filters(headers, headers), "spec.rules[0].filters[1].type: Forbidden"],
  [
    "HTTPRoute",
    filters(headers),
    filters({ type: "RequestHeaderModifier" }),
    "spec.rules[0].filters[0].requestHeaderModifier: Required",
  ],
  [
    "HTTPRoute",
    filters(redirect({})),
    filters({ ...headers, ...redirect({}) }),
    "spec.rules[0].filters[0].requestHeaderModifier: Forbidden",
  ],
  [
    "HTTPRoute",
    filters(redirect({})),
    filters(redirect({}), { type: "URLRewrite", urlRewrite: {} }),
    "spec.rules[0].filters: Forbidden",
  ],
  [
    "HTTPRoute",
    filters(redirect({ statusCode: 301 })),
    filters(redirect({ statusCode: 404 })),
    "spec.rules[0].filters[0].requestRedirect.statusCode: NotSupported",
  ],
  [
    "HTTPRoute",
    filters(redirect({ hostname: "a.test" })),
    filters(redirect({ hostname: "*.test" })),
    "spec.rules[0].filters[0].requestRedirect.hostname: Invalid",
  ],
  [
    "HTTPRoute",
    filters(redirect({ path: { type: "ReplaceFullPath", replaceFullPath: "/" } })),
    filters(redirect({ path: { type: "ReplaceFullPath" } })),
    "spec.rules[0].filters[0].requestRedirect.path.replaceFullPath: Required",
  ],
  ["HTTPRoute", replacing("PathPrefix"), replacing("Exact"), "spec.rules[0].filters[0]: Invalid"],
  [
    "HTTPRoute",
    mirror({ percent: 5 }),
    mirror({ percent: 5, fraction: { numerator: 1 } }),
    "spec.rules[0].filters[0].requestMirror.fraction: Forbidden",
  ],
  [
    "HTTPRoute",
    mirror({ fraction: { numerator: 1, denominator: 2 } }),
    mirror({ fraction: { numerator: 3, denominator: 2 } }),
    "spec.rules[0].filters[0].requestMirror.fraction.numerator: Invalid",
  ],
  [
    "HTTPRoute",
    http({ timeouts: { request: "1s", backendRequest: "500ms" } }),
    http({ timeouts: { request: "1s", backendRequest: "2s" } }),
    "spec.rules[0].timeouts.backendRequest: Invalid",
  ],
  [
    "HTTPRoute",
    http({ timeouts: { request: "1s" } }),
    http({ timeouts: { request: "1.5s" } }),
    "spec.rules[0].timeouts.request: Invalid",
  ],
  ["HTTPRoute", http({ name: "a" }), { rules: [{ name: "a" }, { name: "a" }] }, "spec.rules[1].name: Duplicate"],
  [
    "HTTPRoute",
    http({}, { hostnames: ["*.a.test"] }),
    http({}, { hostnames: ["a.test:80"] }),
    "spec.hostnames[0]: Invalid",
  ],
  [
    "HTTPRoute",
    http(
      {},
      {
        parentRefs: [
          { name: "g", sectionName: "a" },
          { name: "g", sectionName: "b" },
        ],
      },
    ),
    http({}, { parentRefs: [{ name: "g" }, { name: "g", sectionName: "b" }] }),
    "spec.parentRefs[0]: Required",
  ],
  [
    "HTTPRoute",
    http(
      {},
      {
        parentRefs: [
          { name: "g", sectionName: "a" },
          { name: "g", sectionName: "a", port: 80 },
        ],
      },
    ),
    http(
      {},
      {
        parentRefs: [
          { name: "g", sectionName: "a" },
          { name: "g", sectionName: "a" },
        ],
      },
    ),
    "spec.parentRefs[1]: Duplicate",
  ],
  ["HTTPRoute", { rules: [] }, { rules: Array(17).fill({}) }, "spec.rules: TooLong"],
  ["GRPCRoute", grpc({ service: "shop.Cart" }), grpc({}), "spec.rules[0].matches[0].method: Required"],
  [
    "GRPCRoute",
    grpc({ service: "shop.Cart" }),
    grpc({ service: "shop/Cart" }),
    "spec.rules[0].matches[0].method.service: Invalid",
  ],
  [
    "TLSRoute",
    { hostnames: ["a.test"], rules: [{ backendRefs: [backend()] }] },
    { hostnames: ["a.test"], rules: [] },
    "spec.rules: Required",
  ],
  [
    "TCPRoute",
    { rules: [{ backendRefs: [backend()] }] },
    { rules: [{ backendRefs: [] }] },
    "spec.rules[0].backendRefs: Required",
  ],
  [
    "ReferenceGrant",
    { from: [{ group: "", kind: "A", namespace: "b" }], to: [{ group: "", kind: "Secret" }] },
    { from: [], to: [{ group: "", kind: "Secret" }] },
    "spec.from: Required",
  ],
  [
    "ReferenceGrant",
    { from: [{ group: "", kind: "A", namespace: "b" }], to: [{ group: "", kind: "Secret" }] },
    { from: [{ group: "", kind: "A", namespace: "B" }], to: [{ group: "", kind: "Secret" }] },
    "spec.from[0].namespace: Invalid",
  ],
  [
    "BackendTLSPolicy",
    policy({}),
    policy({ caCertificateRefs: [{ group: "", kind: "ConfigMap", name: "c" }] }),
    "spec.validation.wellKnownCACertificates: Forbidden",
  ],
  ["BackendTLSPolicy", policy({}), { ...policy({}), validation: { hostname: "a.test" } }, "spec.validation: Required"],
  ["BackendTLSPolicy", policy({}), policy({ hostname: "*.test" }), "spec.validation.hostname: Invalid"],
  [
    "BackendTLSPolicy",
    policy({ subjectAltNames: [{ type: "Hostname", hostname: "b.test" }] }),
    policy({ subjectAltNames: [{ type: "Hostname", uri: "spiffe://a/b" }] }),
    "spec.validation.subjectAltNames[0].hostname: Required",
  ],
];

/** Two groups have a Gateway; the tests' helper knows kinds by name only. */
const named = (kind: string) => (kind === "Gateway" ? "Gateway.gateway.networking.k8s.io" : kind);

for (const [kind, right, wrong, problem] of cases)
  test(`${kind}: ${problem} in ${JSON.stringify(wrong).slice(0, 120)}, and not when mended`, () => {
    expect(problems(named(kind), { spec: wrong })).toContain(problem);
    expect(problems(named(kind), { spec: right })).toEqual([]);
  });

test("the controller of a GatewayClass stays what it was", () => {
  const of = (controllerName: string) => ({ spec: { controllerName } });
  expect(problems("GatewayClass", of("a.test/b"), of("a.test/a"))).toEqual(["spec.controllerName: Invalid"]);
});
