// What Istio's webhook refuses of the security and telemetry kinds, and what it lets pass.

import { expect, test } from "bun:test";
import { problems } from "./testing.ts";

const rule = (more: object) => ({ spec: { rules: [more] } });
const jwt = (more: object) => ({ spec: { jwtRules: [{ issuer: "me", ...more }] } });
const override = (more: object) => ({ spec: { metrics: [{ overrides: [more] }] } });

test.each<[string, string, object]>([
  ["AuthorizationPolicy", "an empty spec: deny everything", { spec: {} }],
  ["AuthorizationPolicy", "no spec at all", {}],
  ["AuthorizationPolicy", "an empty rule: allow everything", rule({})],
  [
    "AuthorizationPolicy",
    "every field",
    rule({
      from: [{ source: { principals: ["*"], ipBlocks: ["10.0.0.0/8", "10.1.2.3"], notNamespaces: ["a"] } }],
      to: [
        { operation: { hosts: ["a"], ports: ["80"], methods: ["GET"], paths: ["/a*", "/b/{*}/c/{**}", "/{**}/a/"] } },
      ],
      when: [
        { key: "request.headers[x-a]", values: ["1"] },
        { key: "request.auth.claims[a][b]", notValues: ["2"] },
      ],
    }),
  ],
  ["PeerAuthentication", "a port of selected workloads", peer({ portLevelMtls: { "80": { mode: "DISABLE" } } })],
  ["RequestAuthentication", "keys by URI", jwt({ jwksUri: "https://keys.example.com/k" })],
  ["Telemetry", "a tag set to a text", override({ tagOverrides: { a: { value: "'b'" } } })],
])("%s: %s is accepted", (kind, _what, body) => {
  expect(problems(kind, body)).toEqual([]);
});

function peer(more: object): object {
  return { spec: { selector: { matchLabels: { app: "a" } }, ...more } };
}

test.each<[string, object, string[]]>([
  ["AuthorizationPolicy", { spec: { action: "DENY" } }, ["spec.rules: Required"]],
  ["AuthorizationPolicy", { spec: { action: "REFUSE" } }, ["spec.action: NotSupported"]],
  ["AuthorizationPolicy", { spec: { provider: { name: "x" } } }, ["spec.provider: Forbidden"]],
  ["AuthorizationPolicy", rule({ from: [] }), ["spec.rules[0].from: Required"]],
  ["AuthorizationPolicy", rule({ to: [{ operation: {} }] }), ["spec.rules[0].to[0].operation: Required"]],
  [
    "AuthorizationPolicy",
    rule({ from: [{ source: { ipBlocks: ["10.0.0.0/33"] } }] }),
    ["spec.rules[0].from[0].source.ipBlocks[0]: Invalid"],
  ],
  [
    "AuthorizationPolicy",
    rule({ to: [{ operation: { paths: ["/{**}/{*}", "/{x}", "/{*}/b*", "/{*}//a", "{*}"] } }] }),
    [0, 1, 2, 3, 4].map((i) => `spec.rules[0].to[0].operation.paths[${i}]: Invalid`),
  ],
  [
    "AuthorizationPolicy",
    rule({ when: [{ key: "request.path", values: ["/"] }] }),
    ["spec.rules[0].when[0].key: Invalid"],
  ],
  ["AuthorizationPolicy", rule({ when: [{ key: "source.ip" }] }), ["spec.rules[0].when[0]: Required"]],
  [
    "AuthorizationPolicy",
    {
      spec: {
        selector: { matchLabels: { a: "b" } },
        targetRefs: [{ group: "gateway.networking.k8s.io", kind: "Gateway", name: "g" }],
      },
    },
    ["spec.targetRefs: Forbidden"],
  ],
  ["PeerAuthentication", { spec: { portLevelMtls: { "80": { mode: "STRICT" } } } }, ["spec.portLevelMtls: Forbidden"]],
  ["PeerAuthentication", peer({ portLevelMtls: { http: {} } }), ["spec.portLevelMtls: Invalid"]],
  ["RequestAuthentication", { spec: { jwtRules: [{}] } }, ["spec.jwtRules[0].issuer: Required"]],
  ["RequestAuthentication", jwt({ jwks: "no JSON" }), ["spec.jwtRules[0].jwks: Invalid"]],
  ["RequestAuthentication", jwt({ jwksUri: "ftp://a" }), ["spec.jwtRules[0].jwksUri: Invalid"]],
  [
    "Telemetry",
    { spec: { tracing: [{ randomSamplingPercentage: 101 }] } },
    ["spec.tracing[0].randomSamplingPercentage: Invalid"],
  ],
  ["Telemetry", override({ tagOverrides: { a: {} } }), ["spec.metrics[0].overrides[0].tagOverrides.a.value: Required"]],
])("%s: %j is refused", (kind, body, expected) => {
  expect(problems(kind, body)).toEqual(expected);
});
