// What Istio's webhook would refuse and what it lets pass.

import { expect, test } from "bun:test";
import type { KubeObject } from "../object.ts";
import { destinationRuleKind, gatewayKind, virtualServiceKind } from "./istio.ts";

const object = (kind: string, spec: unknown): KubeObject => ({
  apiVersion: "networking.istio.io/v1",
  kind,
  metadata: { name: "a", namespace: "shop", uid: "u", resourceVersion: "1", creationTimestamp: "2026-01-01T00:00:00Z" },
  spec,
});

const kinds = { VirtualService: virtualServiceKind, Gateway: gatewayKind, DestinationRule: destinationRuleKind };

/** Every problem as "field: reason". */
function problems(kind: keyof typeof kinds, spec: unknown): string[] {
  const subject = object(kind, spec);
  kinds[kind].applyDefaults(subject);
  return kinds[kind].validate(subject).map((error) => `${error.field}: ${error.reason.replace("FieldValue", "")}`);
}

const to = (host: string, more: object = {}) => ({ destination: { host }, ...more });
const http = (...routes: object[]) => ({ hosts: ["web"], http: routes });
const route = (more: object) => http({ route: [to("web")], ...more });

test.each<[string, unknown]>([
  ["weights that need not sum to 100", http({ route: [to("web", { weight: 1 }), to("db", { weight: 2 })] })],
  ["a single destination of weight 0", http({ route: [to("web", { weight: 0 })] })],
  ["a gateway and a wildcard host", { hosts: ["*"], gateways: ["shop/gw"], http: [{ route: [to("web")] }] }],
  ["a redirect", http({ redirect: { uri: "/new", redirectCode: 308 } })],
  ["a direct response", http({ directResponse: { status: 503, body: { string: "later" } } })],
  [
    "matches of every kind",
    route({
      match: [
        {
          uri: { prefix: "/a" },
          headers: { "end-user": { exact: "jason" }, cookie: { regex: "^(.*?;)?(user=jason)(;.*)?$" }, present: {} },
          method: { exact: "GET" },
          queryParams: { v: { regex: "\\d+" } },
          port: 80,
          sourceLabels: { app: "x" },
        },
      ],
    }),
  ],
  [
    "faults and retries",
    route({
      fault: { delay: { percentage: { value: 0.1 }, fixedDelay: "5s" }, abort: { httpStatus: 503 } },
      retries: { attempts: 3, perTryTimeout: "2s", retryOn: "5xx,503,connect-failure" },
      timeout: "10s",
    }),
  ],
  ["a delegating root", http({ delegate: { name: "child", namespace: "shop" } })],
  ["a delegate without hosts", { http: [{ route: [to("web")] }] }],
  ["TCP by port", { hosts: ["db"], tcp: [{ match: [{ port: 3306 }], route: [to("db", { weight: 100 })] }] }],
  [
    "TLS by server name",
    {
      hosts: ["*.example.com"],
      gateways: ["gw"],
      tls: [{ match: [{ sniHosts: ["a.example.com"] }], route: [to("a")] }],
    },
  ],
  [
    "headers and mirroring",
    route({
      headers: { request: { set: { "x-a": "1" }, remove: ["x-b"] } },
      mirror: { host: "shadow" },
      mirrorPercentage: { value: 50 },
    }),
  ],
])("a VirtualService with %s is accepted", (_name, spec) => {
  expect(problems("VirtualService", spec)).toEqual([]);
});

test.each<[string, unknown, string[]]>([
  ["no spec", undefined, ["spec: Required"]],
  ["no route at all", { hosts: ["web"] }, ["spec: Required"]],
  ["an empty HTTP rule", http({}), ["spec.http[0]: Required"]],
  ["route and redirect", http({ route: [to("web")], redirect: { uri: "/" } }), ["spec.http[0].redirect: Forbidden"]],
  ["a wrong type", http({ route: [to("web", { weight: "5" })] }), ["spec.http[0].route[0].weight: Invalid"]],
  ["no destination host", http({ route: [{ destination: {} }] }), ["spec.http[0].route[0].destination.host: Required"]],
  [
    "a negative weight",
    http({ route: [to("a", { weight: -1 }), to("b", { weight: 5 })] }),
    ["spec.http[0].route[0].weight: Invalid"],
  ],
  ["weights that sum to 0", http({ route: [to("a", { weight: 0 }), to("b")] }), ["spec.http[0].route: Invalid"]],
  [
    "a pattern RE2 refuses",
    route({ match: [{ uri: { regex: "(?=x)" } }] }),
    ["spec.http[0].match[0].uri.regex: Invalid"],
  ],
  [
    "two patterns in one match",
    route({ match: [{ uri: { exact: "/a", prefix: "/b" } }] }),
    ["spec.http[0].match[0].uri.prefix: Forbidden"],
  ],
  ["a wildcard host in the mesh", { hosts: ["*"], http: [{ route: [to("web")] }] }, ["spec.hosts[0]: Invalid"]],
  ["a host that is no name", { hosts: ["a_b"], http: [{ route: [to("web")] }] }, ["spec.hosts[0]: Invalid"]],
  ["a host twice", { hosts: ["a", "a"], http: [{ route: [to("web")] }] }, ["spec.hosts[1]: Duplicate"]],
  ["a timeout that is no duration", route({ timeout: "soon" }), ["spec.http[0].timeout: Invalid"]],
  ["a timeout under a millisecond", route({ timeout: "10us" }), ["spec.http[0].timeout: Invalid"]],
  [
    "a percentage above 100",
    route({ fault: { abort: { httpStatus: 500, percentage: { value: 101 } } } }),
    ["spec.http[0].fault.abort.percentage.value: Invalid"],
  ],
  ["a fault that does nothing", route({ fault: {} }), ["spec.http[0].fault: Required"]],
  [
    "an unknown retry condition",
    route({ retries: { attempts: 1, retryOn: "sometimes" } }),
    ["spec.http[0].retries.retryOn: Invalid"],
  ],
  [
    "a retry policy without attempts",
    route({ retries: { attempts: 0, perTryTimeout: "1s" } }),
    ["spec.http[0].retries.attempts: Invalid"],
  ],
  [
    "a redirect code out of range",
    http({ redirect: { uri: "/", redirectCode: 200 } }),
    ["spec.http[0].redirect.redirectCode: Invalid"],
  ],
  ["an empty redirect", http({ redirect: {} }), ["spec.http[0].redirect: Required"]],
  [
    "a subset that is no name",
    http({ route: [{ destination: { host: "web", subset: "V_1" } }] }),
    ["spec.http[0].route[0].destination.subset: Invalid"],
  ],
  [
    "a port out of range",
    http({ route: [{ destination: { host: "web", port: { number: 70000 } } }] }),
    ["spec.http[0].route[0].destination.port.number: Invalid"],
  ],
  ["a delegate that delegates", { http: [{ delegate: { name: "x" } }] }, ["spec.http[0].delegate: Forbidden"]],
  [
    "an SNI host outside its hosts",
    { hosts: ["a.com"], tls: [{ match: [{ sniHosts: ["b.com"] }], route: [to("a")] }] },
    ["spec.tls[0].match[0].sniHosts[0]: Invalid"],
  ],
  [
    "an unknown gateway form",
    { hosts: ["a"], gateways: ["a/b/c"], http: [{ route: [to("web")] }] },
    ["spec.gateways[0]: Invalid"],
  ],
  ["exportTo of all and one", { ...route({}), exportTo: ["*", "shop"] }, ["spec.exportTo: Invalid"]],
])("a VirtualService with %s is refused", (_name, spec, expected) => {
  expect(problems("VirtualService", spec)).toEqual(expected);
});

const server = (more: object = {}, port: object = {}) => ({
  port: { number: 80, name: "http", protocol: "HTTP", ...port },
  hosts: ["*"],
  ...more,
});
const gateway = (...servers: object[]) => ({ selector: { istio: "ingressgateway" }, servers });
const https = { number: 443, name: "https", protocol: "HTTPS" };

test.each<[string, unknown]>([
  ["plain HTTP", gateway(server())],
  ["a redirect to HTTPS", gateway(server({ tls: { httpsRedirect: true } }))],
  [
    "SIMPLE by secret",
    gateway(server({ tls: { mode: "SIMPLE", credentialName: "cert", minProtocolVersion: "TLSV1_2" } }, https)),
  ],
  ["SIMPLE by files", gateway(server({ tls: { mode: "SIMPLE", serverCertificate: "/a", privateKey: "/b" } }, https))],
  ["hosts by namespace", gateway(server({ hosts: ["shop/*.example.com", "./a.com", "*/b.com"] }))],
  ["passthrough", gateway(server({ tls: { mode: "PASSTHROUGH" } }, { ...https, protocol: "TLS" }))],
])("a Gateway with %s is accepted", (_name, spec) => {
  expect(problems("Gateway", spec)).toEqual([]);
});

test.each<[string, unknown, string[]]>([
  ["no servers", { selector: {} }, ["spec.servers: Required"]],
  ["no hosts", gateway(server({ hosts: [] })), ["spec.servers[0].hosts: Required"]],
  ["no port", gateway({ hosts: ["*"] }), ["spec.servers[0].port: Required"]],
  ["HTTPS without TLS settings", gateway(server({}, https)), ["spec.servers[0].tls: Required"]],
  [
    "SIMPLE without a certificate",
    gateway(server({ tls: { mode: "SIMPLE" } }, https)),
    ["spec.servers[0].tls.serverCertificate: Required", "spec.servers[0].tls.privateKey: Required"],
  ],
  [
    "MUTUAL without a CA",
    gateway(server({ tls: { mode: "MUTUAL", serverCertificate: "/a", privateKey: "/b" } }, https)),
    ["spec.servers[0].tls.caCertificates: Required"],
  ],
  [
    "TLS settings on plain HTTP",
    gateway(server({ tls: { mode: "SIMPLE", credentialName: "c" } })),
    ["spec.servers[0].tls: Forbidden"],
  ],
  ["an unknown protocol", gateway(server({}, { protocol: "SPDY" })), ["spec.servers[0].port.protocol: NotSupported"]],
  ["an unknown mode", gateway(server({ tls: { mode: "EASY" } }, https)), ["spec.servers[0].tls.mode: NotSupported"]],
  [
    "versions the wrong way round",
    gateway(
      server(
        { tls: { mode: "SIMPLE", credentialName: "c", minProtocolVersion: "TLSV1_3", maxProtocolVersion: "TLSV1_2" } },
        https,
      ),
    ),
    ["spec.servers[0].tls.minProtocolVersion: Invalid"],
  ],
  ["a port name twice", gateway(server(), server({}, { number: 81 })), ["spec.servers[1].port.name: Duplicate"]],
  ["a port out of range", gateway(server({}, { number: 0 })), ["spec.servers[0].port.number: Invalid"]],
])("a Gateway with %s is refused", (_name, spec, expected) => {
  expect(problems("Gateway", spec)).toEqual(expected);
});

const policy = (trafficPolicy: object) => ({ host: "web", trafficPolicy });

test.each<[string, unknown]>([
  [
    "subsets",
    {
      host: "web",
      subsets: [
        { name: "v1", labels: { version: "v1" } },
        { name: "v2", labels: { version: "v2" }, trafficPolicy: { loadBalancer: { simple: "RANDOM" } } },
      ],
    },
  ],
  [
    "a pool and outlier detection",
    policy({
      connectionPool: { tcp: { maxConnections: 1 }, http: { http1MaxPendingRequests: 1 } },
      outlierDetection: { consecutive5xxErrors: 1, interval: "1s", baseEjectionTime: "3m", maxEjectionPercent: 100 },
    }),
  ],
  ["a session cookie", policy({ loadBalancer: { consistentHash: { httpCookie: { name: "u", ttl: "0s" } } } })],
  [
    "settings per port",
    policy({ portLevelSettings: [{ port: { number: 80 }, loadBalancer: { simple: "LEAST_REQUEST" } }] }),
  ],
])("a DestinationRule with %s is accepted", (_name, spec) => {
  expect(problems("DestinationRule", spec)).toEqual([]);
});

test.each<[string, unknown, string[]]>([
  ["no host", { subsets: [] }, ["spec.host: Required"]],
  ["a subset twice", { host: "web", subsets: [{ name: "v1" }, { name: "v1" }] }, ["spec.subsets[1].name: Duplicate"]],
  ["an unnamed subset", { host: "web", subsets: [{ labels: {} }] }, ["spec.subsets[0].name: Required"]],
  [
    "an unknown balancer",
    policy({ loadBalancer: { simple: "FASTEST" } }),
    ["spec.trafficPolicy.loadBalancer.simple: NotSupported"],
  ],
  [
    "simple and hashing",
    policy({ loadBalancer: { simple: "RANDOM", consistentHash: { useSourceIp: true } } }),
    ["spec.trafficPolicy.loadBalancer.consistentHash: Forbidden"],
  ],
  [
    "hashing by two things",
    policy({ loadBalancer: { consistentHash: { useSourceIp: true, httpHeaderName: "x" } } }),
    ["spec.trafficPolicy.loadBalancer.consistentHash.useSourceIp: Forbidden"],
  ],
  ["an empty policy", policy({}), ["spec.trafficPolicy: Required"]],
  ["an empty pool", policy({ connectionPool: {} }), ["spec.trafficPolicy.connectionPool: Required"]],
  [
    "a negative limit",
    policy({ connectionPool: { tcp: { maxConnections: -1 } } }),
    ["spec.trafficPolicy.connectionPool.tcp.maxConnections: Invalid"],
  ],
  [
    "an ejection share above 100",
    policy({ outlierDetection: { maxEjectionPercent: 200 } }),
    ["spec.trafficPolicy.outlierDetection.maxEjectionPercent: Invalid"],
  ],
  [
    "an interval that is no duration",
    policy({ outlierDetection: { interval: "5" } }),
    ["spec.trafficPolicy.outlierDetection.interval: Invalid"],
  ],
  [
    "locality weights short of 100",
    policy({ loadBalancer: { localityLbSetting: { distribute: [{ from: "a", to: { b: 50 } }] } } }),
    ["spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to: Invalid"],
  ],
  [
    "MUTUAL without a certificate",
    policy({ tls: { mode: "MUTUAL" } }),
    ["spec.trafficPolicy.tls.clientCertificate: Required", "spec.trafficPolicy.tls.privateKey: Required"],
  ],
])("a DestinationRule with %s is refused", (_name, spec, expected) => {
  expect(problems("DestinationRule", spec)).toEqual(expected);
});

test("lists print as a custom resource's printer columns do", () => {
  const cells = virtualServiceKind.columns.map((column) =>
    column.value(object("VirtualService", { gateways: ["gw"], hosts: ["a", "b"] }), Date.UTC(2026, 0, 2)),
  );
  expect(cells).toEqual(["a", '["gw"]', '["a","b"]', "24h"]);
});
