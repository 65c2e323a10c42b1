// Rule by rule what Istio's webhook refuses, with the path, beside the same thing mended.

import { expect, test } from "bun:test";
import { headerValueProblem } from "./istio-rules.ts";
import { problems } from "./testing.ts";
import {
  custom,
  destinationRule,
  entry,
  gateway,
  group,
  hash,
  ingress,
  patch,
  sidecar,
  simple,
  virtualService,
} from "./testing-rules.ts";

/** A kind, a spec that is right, what is changed in it, and what is said then. */
type Case = [kind: string, right: object, wrong: object, problem: string];

const cases: Case[] = [
  [
    "VirtualService",
    virtualService({ headers: { request: { set: { "x-share": "100%%" } } } }),
    virtualService({ headers: { request: { set: { "x-share": "100%" } } } }),
    "spec.http[0].headers.request.set[x-share]: Invalid",
  ],
  [
    "VirtualService",
    virtualService({ headers: { request: { set: { ":authority": "b.test" } } } }),
    virtualService({ headers: { request: { set: { ":path": "/" } } } }),
    "spec.http[0].headers.request.set[:path]: Invalid",
  ],
  [
    "VirtualService",
    virtualService({ headers: { response: { remove: ["server"] } } }),
    virtualService({ headers: { response: { remove: ["host"] } } }),
    "spec.http[0].headers.response.remove[0]: Invalid",
  ],
  [
    "VirtualService",
    virtualService({ rewrite: { authority: "b.test" } }),
    virtualService({ rewrite: { authority: "b.test" }, headers: { request: { set: { host: "c.test" } } } }),
    "spec.http[0].headers.request.set[host]: Forbidden",
  ],
  [
    "VirtualService",
    virtualService({ match: [{ uri: { prefix: "/" } }] }),
    virtualService({ match: [{ uri: { prefix: "" } }] }),
    "spec.http[0].match[0].uri.prefix: Invalid",
  ],
  [
    "VirtualService",
    virtualService({ match: [{ uri: { regex: "a".repeat(1024) } }] }),
    virtualService({ match: [{ uri: { regex: "a".repeat(1025) } }] }),
    "spec.http[0].match[0].uri.regex: Invalid",
  ],
  [
    "VirtualService",
    virtualService({ match: [{ headers: { "@request.auth.claims.group": { exact: "a" } } }] }, { gateways: ["g"] }),
    virtualService({ match: [{ headers: { "@request.auth.claims.group": { exact: "a" } } }] }),
    "spec.http[0].match[0].headers[@request.auth.claims.group]: Forbidden",
  ],
  [
    "VirtualService",
    { hosts: ["web"], http: [{ match: [{ uri: { prefix: "/a" } }], delegate: { name: "d" } }] },
    { hosts: ["web"], http: [{ match: [{ uri: { regex: "/a" } }], delegate: { name: "d" } }] },
    "spec.http[0].match[0].uri: Forbidden",
  ],
  [
    "VirtualService",
    virtualService({ match: [{ sourceNamespace: "shop" }] }),
    virtualService({ match: [{ sourceNamespace: "Shop" }] }),
    "spec.http[0].match[0].sourceNamespace: Invalid",
  ],
  [
    "VirtualService",
    virtualService({}, { hosts: ["a.test", "b.test"] }),
    virtualService({}, { hosts: ["*.test", "b.test"] }),
    "spec.hosts[1]: Duplicate",
  ],
  [
    "VirtualService",
    virtualService({}, { gateways: ["shop/g"] }),
    virtualService({}, { gateways: ["shop/*"] }),
    "spec.gateways[0]: Invalid",
  ],
  [
    "VirtualService",
    virtualService({ fault: { abort: { httpStatus: 500, percentage: { value: 0.0001 } } } }),
    virtualService({ fault: { abort: { httpStatus: 500, percentage: { value: 0.00001 } } } }),
    "spec.http[0].fault.abort.percentage.value: Invalid",
  ],
  [
    "VirtualService",
    virtualService({ fault: { delay: { fixedDelay: "1s" } } }),
    virtualService({ fault: { delay: { exponentialDelay: "1s" } } }),
    "spec.http[0].fault.delay.exponentialDelay: Forbidden",
  ],
  [
    "VirtualService",
    virtualService({ corsPolicy: { allowOrigins: [{ exact: "*" }], allowHeaders: ["*"] } }),
    virtualService({ corsPolicy: { allowOrigins: [{}] } }),
    "spec.http[0].corsPolicy.allowOrigins[0]: Invalid",
  ],
  [
    "VirtualService",
    virtualService({}, { exportTo: ["."] }),
    virtualService({}, { exportTo: [".", "shop"] }),
    "spec.exportTo[1]: Duplicate",
  ],
  [
    "VirtualService",
    virtualService({}, { exportTo: ["*"] }),
    virtualService({}, { exportTo: ["~"] }),
    "spec.exportTo[0]: Invalid",
  ],
  [
    "DestinationRule",
    hash({ useSourceIp: true, maglev: { tableSize: 65537 } }),
    hash({ useSourceIp: true, maglev: { tableSize: 65536 } }),
    "spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: Invalid",
  ],
  [
    "DestinationRule",
    hash({ useSourceIp: true, ringHash: { minimumRingSize: 8 } }),
    hash({ useSourceIp: true, minimumRingSize: 8, ringHash: {} }),
    "spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize: Forbidden",
  ],
  [
    "DestinationRule",
    destinationRule({ portLevelSettings: [{ port: { number: 80 }, tls: { mode: "DISABLE" } }] }),
    destinationRule({ portLevelSettings: [{ port: { number: 80 } }] }),
    "spec.trafficPolicy.portLevelSettings[0]: Required",
  ],
  [
    "DestinationRule",
    destinationRule({ tunnel: { protocol: "CONNECT", targetHost: "a.test", targetPort: 443 } }),
    destinationRule({ tunnel: { protocol: "CONNECT", targetHost: "*.test", targetPort: 443 } }),
    "spec.trafficPolicy.tunnel.targetHost: Invalid",
  ],
  [
    "DestinationRule",
    destinationRule({ tls: { mode: "SIMPLE", insecureSkipVerify: true } }),
    destinationRule({ tls: { mode: "SIMPLE", insecureSkipVerify: true, caCertificates: "/ca.pem" } }),
    "spec.trafficPolicy.tls.caCertificates: Forbidden",
  ],
  [
    "DestinationRule",
    { host: "web", workloadSelector: { matchLabels: { app: "a" } }, exportTo: ["."] },
    { host: "web", workloadSelector: { matchLabels: { app: "a" } }, exportTo: ["*"] },
    "spec.exportTo: Forbidden",
  ],
  [
    "Gateway",
    gateway({ tls: simple }),
    gateway({ tls: { ...simple, caCrl: "/crl" } }),
    "spec.servers[0].tls.caCrl: Forbidden",
  ],
  ["Gateway", gateway({ tls: simple }), gateway({ tls: simple }, { name: "" }), "spec.servers[0].port.name: Required"],
  [
    "Gateway",
    gateway({ tls: simple }),
    gateway({ tls: simple }, { targetPort: 8443 }),
    "spec.servers[0].port.targetPort: Forbidden",
  ],
  [
    "Gateway",
    gateway({ tls: simple, bind: "unix:///run/gw" }, { number: 0 }),
    gateway({ tls: simple, bind: "unix://run/gw" }, { number: 0 }),
    "spec.servers[0].bind: Invalid",
  ],
  ["ServiceEntry", entry({ resolution: "DNS" }), entry({ hosts: ["*"] }), "spec.hosts[0]: Invalid"],
  [
    "ServiceEntry",
    entry({ addresses: ["10.0.0.0/24"], resolution: "NONE" }),
    entry({ addresses: ["10.0.0.0/24"], resolution: "DNS" }),
    "spec.addresses[0]: Invalid",
  ],
  [
    "ServiceEntry",
    entry({ resolution: "STATIC", endpoints: [{ address: "10.0.0.1" }] }),
    entry({ resolution: "STATIC", endpoints: [{ address: "api.internal" }] }),
    "spec.endpoints[0].address: Invalid",
  ],
  [
    "ServiceEntry",
    entry({ resolution: "NONE" }),
    entry({ resolution: "NONE", endpoints: [{ address: "10.0.0.1" }] }),
    "spec.endpoints: Forbidden",
  ],
  [
    "ServiceEntry",
    entry({ resolution: "DNS_ROUND_ROBIN", endpoints: [{ address: "a.test" }] }),
    entry({ resolution: "DNS_ROUND_ROBIN", endpoints: [{ address: "a.test" }, { address: "b.test" }] }),
    "spec.endpoints: Forbidden",
  ],
  [
    "ServiceEntry",
    entry({ resolution: "NONE", hosts: ["*.test"] }),
    entry({ resolution: "DNS", hosts: ["*.test"] }),
    "spec.hosts[0]: Invalid",
  ],
  [
    "ServiceEntry",
    entry({ resolution: "STATIC", endpoints: [{ address: "10.0.0.1", ports: { tls: 8443 } }] }),
    entry({ resolution: "STATIC", endpoints: [{ address: "10.0.0.1", ports: { http: 8443 } }] }),
    "spec.endpoints[0].ports[http]: Invalid",
  ],
  [
    "ServiceEntry",
    entry({ resolution: "STATIC", workloadSelector: { labels: { app: "a" } } }),
    entry({ resolution: "STATIC", workloadSelector: { labels: { app: "a*" } } }),
    "spec.workloadSelector.labels[app]: Invalid",
  ],
  [
    "ServiceEntry",
    entry({ resolution: "STATIC", workloadSelector: { labels: { app: "a" } } }),
    entry({ resolution: "STATIC", workloadSelector: { labels: { app: "a" } }, endpoints: [{ address: "10.0.0.1" }] }),
    "spec.endpoints: Forbidden",
  ],
  [
    "ServiceEntry",
    entry({ hosts: ["a.test", "b.test"], resolution: "DNS" }),
    entry({ hosts: ["a.test", "b.test"], resolution: "DNS", ports: [{ number: 1, name: "a", protocol: "TCP" }] }),
    "spec.ports[0]: Forbidden",
  ],
  [
    "ServiceEntry",
    entry({
      ports: [
        { number: 80, name: "a" },
        { number: 81, name: "b" },
      ],
    }),
    entry({
      ports: [
        { number: 80, name: "a" },
        { number: 80, name: "b" },
      ],
    }),
    "spec.ports[1].number: Duplicate",
  ],
  [
    "ServiceEntry",
    entry({ ports: [{ number: 80, name: "a", protocol: "http" }] }),
    entry({ ports: [{ number: 80, name: "a", protocol: "SPDY" }] }),
    "spec.ports[0].protocol: NotSupported",
  ],
  ["ServiceEntry", entry({ exportTo: ["~"] }), entry({ exportTo: ["~", "."] }), "spec.exportTo: Invalid"],
  ["WorkloadEntry", { address: "vm.test" }, { address: "*.test" }, "spec.address: Invalid"],
  ["WorkloadEntry", { network: "n1" }, {}, "spec.address: Required"],
  [
    "WorkloadEntry",
    { address: "unix:///run/app" },
    { address: "unix:///run/app", ports: { http: 80 } },
    "spec.ports: Forbidden",
  ],
  [
    "WorkloadEntry",
    { address: "10.0.0.1", ports: { http: 80 } },
    { address: "10.0.0.1", ports: { http: 0 } },
    "spec.ports[http]: Invalid",
  ],
  ["WorkloadGroup", { template: {} }, {}, "spec.template: Required"],
  [
    "WorkloadGroup",
    group({ tcpSocket: { port: 80 } }),
    group({ tcpSocket: { port: 0 } }),
    "spec.probe.tcpSocket.port: Invalid",
  ],
  [
    "WorkloadGroup",
    group({ exec: { command: ["true"] } }),
    group({ exec: { command: [] } }),
    "spec.probe.exec.command: Required",
  ],
  [
    "WorkloadGroup",
    group({ httpGet: { port: 80, scheme: "HTTPS" } }),
    group({ httpGet: { port: 80, scheme: "FTP" } }),
    "spec.probe.httpGet.scheme: Invalid",
  ],
  ["Sidecar", sidecar({}), {}, "spec: Required"],
  ["Sidecar", sidecar({ hosts: ["shop/*.test"] }), sidecar({ hosts: ["web"] }), "spec.egress[0].hosts[0]: Invalid"],
  ["Sidecar", sidecar({}), sidecar({ hosts: [] }), "spec.egress[0].hosts: Required"],
  [
    "Sidecar",
    { egress: [{ port: { number: 9000, protocol: "HTTP", name: "a" }, hosts: ["./*"] }, { hosts: ["./*"] }] },
    { egress: [{ hosts: ["./*"] }, { port: { number: 9000, protocol: "HTTP", name: "a" }, hosts: ["./*"] }] },
    "spec.egress[0]: Invalid",
  ],
  [
    "Sidecar",
    ingress({ defaultEndpoint: "127.0.0.1:8080" }),
    ingress({ defaultEndpoint: "10.0.0.1:8080" }),
    "spec.ingress[0].defaultEndpoint: Invalid",
  ],
  [
    "Sidecar",
    ingress({ tls: { mode: "SIMPLE", serverCertificate: "/c", privateKey: "/k" } }),
    ingress({ tls: { mode: "SIMPLE", serverCertificate: "/c", privateKey: "/k", credentialName: "c" } }),
    "spec.ingress[0].tls.credentialName: Forbidden",
  ],
  [
    "Sidecar",
    sidecar({ port: { number: 0, protocol: "HTTP", name: "a" }, bind: "unix:///run/a" }),
    sidecar({ port: { number: 0, protocol: "HTTP", name: "a" }, bind: "127.0.0.1" }),
    "spec.egress[0].bind: Invalid",
  ],
  [
    "Sidecar",
    sidecar({}, { inboundConnectionPool: { tcp: { maxConnections: 1 } } }),
    sidecar({}, { inboundConnectionPool: {} }),
    "spec.inboundConnectionPool: Required",
  ],
  ["EnvoyFilter", patch({}), patch({ patch: { operation: "ADD" } }), "spec.configPatches[0].patch.value: Required"],
  [
    "EnvoyFilter",
    patch({ match: { listener: { portNumber: 80 } } }),
    patch({ match: { cluster: { name: "a" } } }),
    "spec.configPatches[0].match.cluster: Forbidden",
  ],
  [
    "EnvoyFilter",
    patch({ match: { proxy: { proxyVersion: "^1\\.2.*" } } }),
    patch({ match: { proxy: { proxyVersion: "(" } } }),
    "spec.configPatches[0].match.proxy.proxyVersion: Invalid",
  ],
  ["ProxyConfig", { concurrency: 0 }, { concurrency: -1 }, "spec.concurrency: Invalid"],
  ["WasmPlugin", { url: "oci://a.test/p:1" }, { url: "ftp://a.test/p" }, "spec.url: Invalid"],
  [
    "WasmPlugin",
    { url: "a.test/p", sha256: "a".repeat(64) },
    { url: "a.test/p", sha256: "A".repeat(64) },
    "spec.sha256: Invalid",
  ],
  [
    "AuthorizationPolicy",
    custom({ to: [{ operation: { paths: ["/a"] } }] }),
    custom({ from: [{ source: { namespaces: ["a"] } }] }),
    "spec.rules[0].from[0].source.namespaces: Forbidden",
  ],
  [
    "AuthorizationPolicy",
    custom({ when: [{ key: "source.ip", values: ["10.0.0.1"] }] }),
    custom({ when: [{ key: "source.namespace", values: ["a"] }] }),
    "spec.rules[0].when[0].key: Forbidden",
  ],
  [
    "AuthorizationPolicy",
    { targetRefs: [{ group: "gateway.networking.k8s.io", kind: "Gateway", name: "g" }] },
    { targetRefs: [{ group: "gateway.networking.k8s.io", kind: "TCPRoute", name: "g" }] },
    "spec.targetRefs[0].kind: NotSupported",
  ],
  [
    "Telemetry",
    { tracing: [{ providers: [{ name: "a" }] }] },
    { tracing: [{ providers: [{ name: "" }] }] },
    "spec.tracing[0].providers[0].name: Required",
  ],
  [
    "Telemetry",
    { tracing: [{ customTags: { a: { literal: { value: "b" } } } }] },
    { tracing: [{ customTags: { a: { header: { name: "" } } } }] },
    "spec.tracing[0].customTags.a.header.name: Required",
  ],
  [
    "Telemetry",
    { metrics: [{ overrides: [{ match: { customMetric: "a" }, disabled: true }] }] },
    { metrics: [{ overrides: [{ match: { customMetric: "" }, disabled: true }] }] },
    "spec.metrics[0].overrides[0].match.customMetric: Required",
  ],
  [
    "RequestAuthentication",
    { jwtRules: [{ issuer: "a", spaceDelimitedClaims: ["scp"] }] },
    { jwtRules: [{ issuer: "a", spaceDelimitedClaims: [""] }] },
    "spec.jwtRules[0].spaceDelimitedClaims[0]: Required",
  ],
  [
    "RequestAuthentication",
    { jwtRules: [{ issuer: "a", outputClaimToHeaders: [{ header: "x-sub", claim: "sub" }] }] },
    { jwtRules: [{ issuer: "a", outputClaimToHeaders: [{ header: ":authority", claim: "sub" }] }] },
    "spec.jwtRules[0].outputClaimToHeaders[0].header: Invalid",
  ],
  [
    "WasmPlugin",
    { url: "a.test/p", pluginName: "p" },
    { url: "a.test/p", pluginName: "" },
    "spec.pluginName: Required",
  ],
  ["WasmPlugin", { url: "a.test/p" }, { url: "#%blah$#@" }, "spec.url: Invalid"],
  [
    "AuthorizationPolicy",
    { rules: [{ from: [{ source: { serviceAccounts: ["shop/web"] } }] }] },
    { rules: [{ from: [{ source: { serviceAccounts: ["shop/*"] } }] }] },
    "spec.rules[0].from[0].source.serviceAccounts[0]: Invalid",
  ],
  [
    "AuthorizationPolicy",
    { rules: [{ when: [{ key: "request.headers[a]", values: ["b"] }] }] },
    { rules: [{ when: [{ key: "request.headers[a]", values: [""] }] }] },
    "spec.rules[0].when[0].values[0]: Required",
  ],
];

for (const [kind, right, wrong, problem] of cases)
  test(`${kind}: ${problem} in ${JSON.stringify(wrong).slice(0, 120)}, and not when mended`, () => {
    expect(problems(kind, { spec: wrong })).toContain(problem);
    expect(problems(kind, { spec: right })).toEqual([]);
  });

test("reads variables in header values as Envoy does", () => {
  for (const value of [
    "",
    "foo",
    "%HOSTNAME%",
    "100%%",
    "a %HOSTNAME% b",
    '%PER_REQUEST_STATE("a")%',
    "%START_TIME(%Y)%",
    '%UPSTREAM_METADATA(["a", "b"])%',
    "%REQ(X):5%",
  ])
    expect([value, headerValueProblem(value)]).toEqual([value, undefined]);
  for (const value of ["%", "abc%123", "%START_TIME%%", "%a", "a\u0007b", "%A(b"])
    expect(headerValueProblem(value)).toBeString();
});
