// What Istio's webhook accepts with a warning.

import { expect, test } from "bun:test";
import { kindOf, objectOf, problems } from "./testing.ts";
import {
  destinationRule,
  entry,
  gateway,
  ingress,
  patch,
  route,
  sidecar,
  simple,
  virtualService,
} from "./testing-rules.ts";

const warningsOf = (kind: string, spec: object): string[] =>
  (kindOf(kind).warn?.(objectOf(kind, { spec })) ?? []).map(({ field }) => field);

const warned: [kind: string, spec: object, field: string][] = [
  [
    "VirtualService",
    virtualService({ match: [{ uri: { prefix: "/" } }] }, { gateways: ["g.shop"] }),
    "spec.gateways[0]",
  ],
  ["VirtualService", virtualService({ fault: { abort: {} } }), "spec.http[0].fault.abort"],
  [
    "VirtualService",
    virtualService({ fault: { delay: { fixedDelay: "1s", percent: 5 } } }),
    "spec.http[0].fault.delay.percent",
  ],
  ["VirtualService", { hosts: ["web"], http: [route, { name: "b", ...route }] }, "spec.http[1]"],
  [
    "DestinationRule",
    destinationRule({ outlierDetection: { consecutiveErrors: 5 } }),
    "spec.trafficPolicy.outlierDetection.consecutiveErrors",
  ],
  [
    "DestinationRule",
    destinationRule({ loadBalancer: { simple: "LEAST_CONN" } }),
    "spec.trafficPolicy.loadBalancer.simple",
  ],
  [
    "DestinationRule",
    destinationRule({ loadBalancer: { localityLbSetting: { failoverPriority: ["a"] } } }),
    "spec.trafficPolicy.loadBalancer.localityLbSetting",
  ],
  ["Gateway", gateway({ tls: { ...simple, httpsRedirect: true } }), "spec.servers[0].tls.httpsRedirect"],
  ["Gateway", gateway({ tls: { ...simple, cipherSuites: ["ROT13"] } }), "spec.servers[0].tls.cipherSuites[0]"],
  ["Gateway", gateway({ tls: { mode: "PASSTHROUGH", credentialName: "c" } }), "spec.servers[0].tls.credentialName"],
  ["Gateway", gateway({ tls: { ...simple, minProtocolVersion: "TLSV1_0" } }), "spec.servers[0].tls.minProtocolVersion"],
  ["AuthorizationPolicy", { action: "DENY", rules: [{ to: [{ operation: { methods: ["GET"] } }] }] }, "spec.rules[0]"],
  ["AuthorizationPolicy", { selector: {} }, "spec.selector"],
  ["RequestAuthentication", { jwtRules: [{ issuer: "a", jwks_uri: "https://a.test" }] }, "spec.jwtRules[0].jwks_uri"],
  ["Telemetry", { tracing: [{}, {}] }, "spec.tracing"],
  ["ServiceEntry", entry({ hosts: ["*a.test"] }), "spec.hosts[0]"],
  ["ServiceEntry", entry({ ports: [{ number: 80, name: "a", targetPort: 8080 }] }), "spec.ports[0].targetPort"],
  ["WorkloadEntry", { network: "n1" }, "spec.address"],
  ["Sidecar", sidecar({ hosts: ["./*", "./web"] }), "spec.egress[0].hosts[1]"],
  [
    "Sidecar",
    ingress({ port: { number: 1, protocol: "TCP", name: "a" }, connectionPool: { http: { maxRetries: 1 } } }),
    "spec.ingress[0].connectionPool.http",
  ],
  ["EnvoyFilter", patch({}), "spec.configPatches"],
];

for (const [kind, spec, field] of warned)
  test(`${kind}: is accepted with a warning about ${field}`, () => {
    expect(problems(kind, { spec })).toEqual([]);
    expect(warningsOf(kind, spec)).toContain(field);
  });

test("nothing is said about what is as it should be", () => {
  expect(warningsOf("VirtualService", virtualService({ match: [{ uri: { prefix: "/" } }] }))).toEqual([]);
  expect(warningsOf("DestinationRule", destinationRule({ loadBalancer: { simple: "RANDOM" } }))).toEqual([]);
  expect(warningsOf("Gateway", gateway({ tls: simple }))).toEqual([]);
  expect(warningsOf("Sidecar", sidecar({ hosts: ["./*", "istio-system/*"] }))).toEqual([]);
});
