// TLS origination: who the server must be, what it is shown, SNI by configuration or by the request's host; and require_tls.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { VirtualHost_TlsRequirementType as Requirement } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { SubjectAltNameMatcher_SanType as SanType } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import type { UpstreamTlsContextSchema } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { HttpProtocolOptionsSchema } from "#gen/xds/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js";
import {
  type Configuration,
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  inline,
  keyPair,
  listener,
  pack,
  prefix,
  routes,
  startFixture,
  toCluster,
  trusted,
} from "../fixture.ts";
import { lacksTls } from "../routing/require_tls.ts";
import { clientTlsOf, hourMs, type Pair, type TestAuthority, testAuthority, tlsCertificate } from "./fixture.ts";

type Tls = MessageInitShape<typeof UpstreamTlsContextSchema>;

let authority: TestAuthority;
let stranger: TestAuthority;
let server: Server;
let serverPair: Pair;
let clientPair: Pair;
let backend = "";
let connections = 0;
const port = freePort();
let proxy: FixtureProxy | undefined;

beforeAll(async () => {
  authority = await testAuthority("servers");
  stranger = await testAuthority("strangers");
  const names = { dnsNames: ["backend.test", "*.wild.test"], uris: ["spiffe://cluster.local/ns/test/sa/backend"] };
  serverPair = await authority.issue({ commonName: "backend", ...names, lifetimeMs: hourMs, usages: ["server"] });
  clientPair = await authority.issue({ commonName: "caller", lifetimeMs: hourMs, usages: ["client"] });
  const options = { requestCert: true, rejectUnauthorized: false, ca: authority.certPem };
  server = createServer({ cert: serverPair.certPem, key: serverPair.keyPem, ...options }, (socket: TLSSocket) => {
    connections++;
    socket.on("error", () => {});
    socket.on("data", () => {
      const sni = (socket as unknown as { servername?: string }).servername || "none";
      const { subject } = socket.getPeerCertificate();
      const body = `${sni} ${subject?.CN ?? "nobody"} ${socket.getProtocol()}`;
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    });
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", () => listening.resolve());
  await listening.promise;
  backend = `127.0.0.1:${(server.address() as { port: number }).port}`;
});
afterEach(async () => {
  await proxy?.close();
  proxy = undefined;
});
afterAll(() => void server.close());

const ca = (by = authority) => ({ trustedCa: inline(by.certPem) });
const validated = (value: object) => ({ validationContextType: { case: "validationContext", value } }) as const;

function configuration(tls: Tls, more: object = {}, secrets: Configuration["secrets"] = []): Configuration {
  return {
    listeners: [listener("127.0.0.1", port, [httpChain("main")])],
    clusters: [cluster("app", [backend], { transportSocket: clientTlsOf(tls), ...more } as never)],
    routes: [routes("main", [{ match: prefix("/"), action: toCluster("app") }])],
    secrets,
  };
}
async function get(host = "client.test"): Promise<string> {
  const got = await fetch(`http://127.0.0.1:${port}/`, { headers: { host } });
  return got.status === 200 ? await got.text() : String(got.status);
}

describe("a server", () => {
  const names = (sanType: SanType, value: string) => ({
    ...ca(),
    matchTypedSubjectAltNames: [{ sanType, matcher: { matchPattern: { case: "exact", value } } }],
  });
  const hash = (pem: string) => new X509Certificate(pem).fingerprint256;
  const cases: [string, () => Tls, string][] = [
    ["may be anybody without a validation context", () => ({ sni: "any.test" }), "any.test nobody TLSv1.3"],
    ["must be issued by the authority", () => ({ commonTlsContext: validated(ca()) }), "none nobody TLSv1.3"],
    ["of another authority is refused", () => ({ commonTlsContext: validated(ca(stranger)) }), "503"],
    [
      "of another authority is refused also when the name is wrong too",
      () => ({ sni: "wrong.test", commonTlsContext: validated(ca(stranger)) }),
      "503",
    ],
    [
      "must have the name, which its wildcard covers",
      () => ({ commonTlsContext: validated(names(SanType.DNS, "a.wild.test")) }),
      "none nobody TLSv1.3",
    ],
    [
      "with another name is refused",
      () => ({ commonTlsContext: validated(names(SanType.DNS, "a.b.wild.test")) }),
      "503",
    ],
    [
      "must have the SPIFFE id",
      () => ({ commonTlsContext: validated(names(SanType.URI, "spiffe://cluster.local/ns/test/sa/backend")) }),
      "none nobody TLSv1.3",
    ],
    [
      "is known by its hash",
      () => ({ commonTlsContext: validated({ verifyCertificateHash: [hash(serverPair.certPem)] }) }),
      "none nobody TLSv1.3",
    ],
    [
      "with another hash is refused",
      () => ({ commonTlsContext: validated({ verifyCertificateHash: [hash(clientPair.certPem)] }) }),
      "503",
    ],
  ];
  for (const [what, tls, want] of cases)
    test(what, async () => {
      proxy = await startFixture(configuration(tls()));
      expect(await get()).toBe(want);
    });

  test("is shown our certificate: inline, or by SDS once it has arrived, and the rotated one on new connections", async () => {
    proxy = await startFixture(
      configuration({ commonTlsContext: { tlsCertificates: [tlsCertificate(clientPair)], ...validated(ca()) } }),
    );
    expect(await get()).toBe("none caller TLSv1.3");
    const tls: Tls = {
      commonTlsContext: {
        tlsCertificateSdsSecretConfigs: [{ name: "own" }],
        validationContextType: { case: "validationContextSdsSecretConfig", value: { name: "roots" } },
      },
    };
    const bySds = configuration(tls);
    const secrets = (pair: Pair) => [keyPair("own", pair), trusted("roots", authority.certPem)];
    await proxy.configure(bySds);
    expect(await get()).toBe("503");
    await proxy.configure({ ...bySds, secrets: secrets(clientPair) });
    expect(await get()).toBe("none caller TLSv1.3");
    const renewed = await authority.issue({ commonName: "renewed", lifetimeMs: hourMs, usages: ["client"] });
    await proxy.configure({ ...bySds, secrets: secrets(renewed) });
    // More at once than there are kept connections.
    const all = await Promise.all(Array.from({ length: 20 }, get));
    expect(new Set(all)).toEqual(new Set(["none caller TLSv1.3", "none renewed TLSv1.3"]));
  });

  test("of changed settings is connected to anew: no request goes over a connection of the old ones", async () => {
    proxy = await startFixture(configuration({ sni: "old.test" }));
    expect(await get()).toStartWith("old.test");
    await proxy.configure(configuration({ sni: "new.test" }));
    expect(await get()).toStartWith("new.test");
  });
});

describe("the request's host", () => {
  const options = (upstreamHttpProtocolOptions: { autoSni?: boolean; autoSanValidation?: boolean }) => ({
    typedExtensionProtocolOptions: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(HttpProtocolOptionsSchema, {
        upstreamHttpProtocolOptions,
        upstreamProtocolOptions: {
          case: "explicitHttpConfig",
          value: { protocolConfig: { case: "httpProtocolOptions", value: {} } },
        },
      }),
    },
  });

  test("is the server name with auto_sni; hosts do not share connections, requests to one host do", async () => {
    proxy = await startFixture(configuration({ sni: "fixed.test" }, options({ autoSni: true })));
    const before = connections;
    for (const [host, want] of [
      ["a.test", "a.test"],
      ["B.test:8443", "b.test"],
      ["a.test", "a.test"],
      ["192.0.2.1", "fixed.test"],
      ["b.test", "b.test"],
    ] as const)
      expect(await get(host)).toBe(`${want} nobody TLSv1.3`);
    expect(connections - before).toBe(3);
  });

  test("must be one of the server's names with auto_san_validation", async () => {
    const tls: Tls = { commonTlsContext: validated(ca()) };
    proxy = await startFixture(configuration(tls, options({ autoSni: true, autoSanValidation: true })));
    expect(await get("backend.test")).toBe("backend.test nobody TLSv1.3");
    expect(await get("x.wild.test")).toBe("x.wild.test nobody TLSv1.3");
    expect(await get("other.test")).toBe("503");
  });
});

describe("a virtual host that requires TLS", () => {
  test("sends plain requests to https, whatever their route", async () => {
    const base = configuration({});
    const [table] = base.routes!;
    table!.virtualHosts[0]!.requireTls = Requirement.ALL;
    proxy = await startFixture({
      ...base,
      listeners: [listener("127.0.0.1", port, [httpChain("main", { useRemoteAddress: true })])],
    });
    const got = await fetch(`http://127.0.0.1:${port}/a?b=c`, { redirect: "manual", headers: { host: "a.test:80" } });
    expect([got.status, got.headers.get("location")]).toEqual([301, "https://a.test/a?b=c"]);
  });

  const request = (fields: Record<string, string>) => ({ header: (name: string) => fields[name] }) as never;
  const from = (remoteAddress: string, secure = false) => ({ remoteAddress, secure }) as never;
  const table: [string, Parameters<typeof lacksTls>, boolean][] = [
    ["no requirement", [undefined, request({}), from("192.0.2.1"), true], false],
    ["came in plain", ["all", request({}), from("192.0.2.1"), true], true],
    ["came in over TLS", ["all", request({}), from("192.0.2.1", true), true], false],
    ["says https, at the edge", ["all", request({ "x-forwarded-proto": "https" }), from("192.0.2.1"), true], true],
    ["says https, in the mesh", ["all", request({ "x-forwarded-proto": "https" }), from("10.0.0.1"), false], false],
    ["external only, from outside", ["external", request({}), from("192.0.2.1"), true], true],
    ["external only, from inside", ["external", request({}), from("10.1.2.3"), true], false],
    [
      "external only, through somebody inside",
      ["external", request({ "x-forwarded-for": "1.2.3.4" }), from("10.1.2.3"), true],
      true,
    ],
    [
      "external only, said to be internal",
      ["external", request({ "x-envoy-internal": "true" }), from("10.1.2.3"), false],
      false,
    ],
  ];
  for (const [what, args, want] of table)
    test(`${what}: ${want ? "redirected" : "served"}`, () => expect(lacksTls(...args)).toBe(want));
});
