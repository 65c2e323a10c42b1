// TLS termination: certificates by name and key type, client certificates judged, rotation under load.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createHash, X509Certificate } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { HttpConnectionManager_ForwardClientCertDetails as Forward } from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import {
  type CertificateValidationContextSchema,
  SubjectAltNameMatcher_SanType as SanType,
  CertificateValidationContext_TrustChainVerification as TrustChain,
  TlsParameters_TlsProtocol as Version,
} from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import type { DownstreamTlsContextSchema } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { realClock } from "../../kernel/clock.ts";
import {
  type Configuration,
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  inline,
  keyPair,
  listener,
  prefix,
  routes,
  startFixture,
  tcpChain,
  toCluster,
  trusted,
} from "../fixture.ts";
import {
  getOverTls,
  hourMs,
  type Pair,
  serverTlsOf,
  type TestAuthority,
  testAuthority,
  tlsCertificate,
} from "./fixture.ts";

type Tls = MessageInitShape<typeof DownstreamTlsContextSchema>;
type Validation = MessageInitShape<typeof CertificateValidationContextSchema>;

let authority: TestAuthority;
let stranger: TestAuthority;
let app: ReturnType<typeof Bun.serve<undefined>>;
const port = freePort();
let proxy: FixtureProxy | undefined;
/** Certificates made once. */
const pairs = {} as Record<"one" | "wild" | "rsa" | "client" | "other" | "revoked" | "foreign" | "expired", Pair>;

beforeAll(async () => {
  authority = await testAuthority("clients");
  stranger = await testAuthority("strangers");
  const server = (dnsNames: string[]) =>
    authority.issue({ commonName: dnsNames[0]!, dnsNames, lifetimeMs: hourMs, usages: ["server"] });
  const client = (by: TestAuthority, name: string, lifetimeMs = hourMs) =>
    by.issue({
      commonName: name,
      organizations: ["meshbed, Ltd"],
      dnsNames: [`${name}.test`],
      uris: [`spiffe://cluster.local/ns/test/sa/${name}`],
      lifetimeMs,
      usages: ["client"],
    });
  pairs.one = await server(["one.test"]);
  pairs.wild = await server(["*.wild.test"]);
  pairs.rsa = await authority.rsa("one.test");
  pairs.client = await client(authority, "client");
  pairs.other = await client(authority, "other");
  pairs.revoked = await client(authority, "revoked");
  pairs.foreign = await client(stranger, "client");
  pairs.expired = await client(authority, "client", 1);
  app = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request) => Response.json(Object.fromEntries(request.headers)),
  });
});
afterEach(async () => {
  await proxy?.close();
  proxy = undefined;
});
afterAll(() => app.stop(true));

function configuration(tls: Tls, more: Partial<Configuration> = {}, manager: object = {}): Configuration {
  return {
    listeners: [
      listener("127.0.0.1", port, [httpChain("main", manager, { transportSocket: serverTlsOf(tls) } as never)]),
    ],
    clusters: [cluster("app", [`127.0.0.1:${app.port}`])],
    routes: [routes("main", [{ match: prefix("/"), action: toCluster("app") }])],
    ...more,
  };
}
const certificates = (...list: Pair[]) => ({ tlsCertificates: list.map(tlsCertificate) });
const as = (pair: Pair | undefined) => (pair ? { cert: pair.certPem, key: pair.keyPem } : {});
const fingerprint = (pair: Pair): string =>
  new X509Certificate(pair.certPem).fingerprint256.replaceAll(":", "").toLowerCase();

describe("certificates", () => {
  test("of two key types: the client's abilities choose", async () => {
    proxy = await startFixture(configuration({ commonTlsContext: certificates(pairs.one, pairs.rsa) }));
    const only = (ciphers: string) => getOverTls(port, "one.test", { maxVersion: "TLSv1.2", ciphers });
    expect((await only("ECDHE-RSA-AES128-GCM-SHA256")).certificate?.bits).toBe(2048);
    expect((await only("ECDHE-ECDSA-AES128-GCM-SHA256")).certificate?.bits).toBe(256);
    expect((await getOverTls(port, "one.test")).certificate?.bits).toBe(256);
  });

  test("of one chain are chosen by server name: exact, wildcard for one label, else the first", async () => {
    proxy = await startFixture(configuration({ commonTlsContext: certificates(pairs.one, pairs.wild) }));
    const shown = async (name: string) => (await getOverTls(port, name)).subject;
    expect(await shown("one.test")).toBe("one.test");
    expect(await shown("a.wild.test")).toBe("*.wild.test");
    expect(await shown("a.b.wild.test")).toBe("one.test");
    expect(await shown("unknown.test")).toBe("one.test");
    expect(await shown("")).toBe("one.test");
  });

  test("are not shown without a server name when the listener asks for one", async () => {
    proxy = await startFixture(configuration({ commonTlsContext: certificates(pairs.one), requireSni: true }));
    expect((await getOverTls(port, "")).subject).toBeUndefined();
    expect((await getOverTls(port, "x.test")).subject).toBe("one.test");
  });

  test("of a secret that has not arrived are waited for: until then connections are refused", async () => {
    const tls: Tls = { commonTlsContext: { tlsCertificateSdsSecretConfigs: [{ name: "late" }] } };
    proxy = await startFixture(configuration(tls));
    expect((await getOverTls(port, "one.test")).subject).toBeUndefined();
    await proxy.configure(configuration(tls, { secrets: [keyPair("late", pairs.one)] }));
    expect((await getOverTls(port, "one.test")).text).toStartWith("HTTP/1.1 200");
  });
});

describe("versions and suites", () => {
  const params = (tlsParams: NonNullable<Tls["commonTlsContext"]>["tlsParams"]) =>
    configuration({ commonTlsContext: { ...certificates(pairs.one), tlsParams: tlsParams! } });

  test("are the configured ones", async () => {
    const cipherSuites = ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"];
    proxy = await startFixture(
      params({ tlsMaximumProtocolVersion: Version.TLSv1_2, cipherSuites, ecdhCurves: ["P-384"] }),
    );
    const plain = await getOverTls(port, "one.test");
    expect([plain.protocol, plain.cipher]).toEqual(["TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"]);
    expect((await getOverTls(port, "one.test", { ciphers: "ECDHE-ECDSA-AES128-GCM-SHA256" })).subject).toBeUndefined();
    expect((await getOverTls(port, "one.test", { ecdhCurve: "X25519" })).subject).toBeUndefined();
    expect((await getOverTls(port, "one.test", { minVersion: "TLSv1.3" })).subject).toBeUndefined();
  });

  test("in a group of equals the client chooses, else the server", async () => {
    const theirs = { maxVersion: "TLSv1.2", ciphers: "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256" };
    proxy = await startFixture(
      params({ cipherSuites: ["[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]"] }),
    );
    expect((await getOverTls(port, "one.test", theirs)).cipher).toBe("ECDHE-ECDSA-CHACHA20-POLY1305");
    await proxy.configure(params({ cipherSuites: ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"] }));
    expect((await getOverTls(port, "one.test", theirs)).cipher).toBe("ECDHE-ECDSA-AES128-GCM-SHA256");
  });

  test("that nobody knows are refused by name, and what served before goes on", async () => {
    proxy = await startFixture(params({}));
    await proxy.configure(params({ cipherSuites: ["ECDHE-ECDSA-AES128-GCM-SHA256", "NO-SUCH"] }));
    expect((await getOverTls(port, "one.test")).text).toStartWith("HTTP/1.1 200");
  });
});

describe("sessions", () => {
  const resumed = async (): Promise<boolean> => {
    const { session } = await getOverTls(port, "one.test", { maxVersion: "TLSv1.2" });
    return (await getOverTls(port, "one.test", { maxVersion: "TLSv1.2", session })).reused;
  };

  test("are resumed by tickets, also after another secret was rotated, but not with a new certificate", async () => {
    const tls: Tls = { commonTlsContext: { tlsCertificateSdsSecretConfigs: [{ name: "one" }] } };
    const secrets = (one: Pair, other: Pair) => ({ secrets: [keyPair("one", one), keyPair("other", other)] });
    const unchanged = configuration(tls);
    proxy = await startFixture({ ...unchanged, ...secrets(pairs.one, pairs.wild) });
    expect(await resumed()).toBe(true);
    const { session } = await getOverTls(port, "one.test", { maxVersion: "TLSv1.2" });
    const again = async () => (await getOverTls(port, "one.test", { maxVersion: "TLSv1.2", session })).reused;
    await proxy.configure({ ...unchanged, ...secrets(pairs.one, pairs.rsa) });
    expect(await again()).toBe(true);
    await proxy.configure({ ...unchanged, ...secrets(pairs.rsa, pairs.rsa) });
    expect(await again()).toBe(false);
  });

  test("are not resumed when tickets are switched off", async () => {
    proxy = await startFixture(
      configuration({
        commonTlsContext: certificates(pairs.one),
        sessionTicketKeysType: { case: "disableStatelessSessionResumption", value: true },
      }),
    );
    expect(await resumed()).toBe(false);
  });
});

describe("a client certificate", () => {
  type Who = keyof typeof pairs | "nobody";
  const exact = (sanType: SanType, value: string) => ({
    sanType,
    matcher: { matchPattern: { case: "exact", value } as const },
  });
  const ca = () => ({ trustedCa: inline(authority.certPem) });
  const spki = (pair: Pair): string =>
    createHash("sha256")
      .update(new X509Certificate(pair.certPem).publicKey.export({ type: "spki", format: "der" }))
      .digest("base64");

  interface Case {
    what: string;
    validation: () => Validation | Promise<Validation>;
    required?: boolean;
    in: Who[];
    out: Who[];
  }
  const cases: Case[] = [
    {
      what: "required",
      validation: ca,
      required: true,
      in: ["client", "other"],
      out: ["nobody", "foreign", "expired", "one"],
    },
    {
      what: "optional: none is fine, a bad one is not",
      validation: ca,
      in: ["client", "nobody"],
      out: ["foreign", "expired"],
    },
    {
      what: "with an exact URI",
      validation: () => ({
        ...ca(),
        matchTypedSubjectAltNames: [exact(SanType.URI, "spiffe://cluster.local/ns/test/sa/client")],
      }),
      required: true,
      in: ["client"],
      out: ["other", "foreign"],
    },
    {
      what: "with a DNS name as typed matchers have it, whatever the URI",
      validation: () => ({ ...ca(), matchTypedSubjectAltNames: [exact(SanType.DNS, "other.test")] }),
      required: true,
      in: ["other"],
      out: ["client"],
    },
    {
      what: "with names by prefix, suffix, substring or expression, one of which is enough",
      validation: () => ({
        ...ca(),
        matchSubjectAltNames: [
          { matchPattern: { case: "suffix", value: "/sa/revoked" } },
          { matchPattern: { case: "safeRegex", value: { regex: "cli.*\\.test" } } },
        ],
      }),
      required: true,
      in: ["client", "revoked"],
      out: ["other"],
    },
    {
      what: "listed by hash, whoever issued it",
      validation: () => ({ verifyCertificateHash: [fingerprint(pairs.foreign)] }),
      required: true,
      in: ["foreign"],
      out: ["client", "nobody"],
    },
    {
      what: "listed by its public key or by hash",
      validation: () => ({
        verifyCertificateSpki: [spki(pairs.other)],
        verifyCertificateHash: [fingerprint(pairs.client)],
      }),
      required: true,
      in: ["other", "client"],
      out: ["revoked"],
    },
    {
      what: "listed by hash and issued by the authority",
      validation: () => ({ ...ca(), verifyCertificateHash: [fingerprint(pairs.foreign), fingerprint(pairs.client)] }),
      required: true,
      in: ["client"],
      out: ["foreign", "other"],
    },
    {
      what: "not revoked",
      validation: async () => ({ ...ca(), crl: inline(await authority.revoke([pairs.revoked.certPem])) }),
      required: true,
      in: ["client"],
      out: ["revoked"],
    },
    {
      what: "accepted untrusted",
      validation: () => ({ ...ca(), trustChainVerification: TrustChain.ACCEPT_UNTRUSTED }),
      required: true,
      in: ["client", "foreign", "expired"],
      out: ["nobody"],
    },
    {
      what: "required without anything to verify it with: nobody passes",
      validation: () => ({}),
      required: true,
      in: [],
      out: ["client", "foreign", "nobody"],
    },
  ];
  for (const { what, validation, required = false, in: welcome, out } of cases)
    test(what, async () => {
      const value = await validation();
      proxy = await startFixture(
        configuration({
          commonTlsContext: { ...certificates(pairs.one), validationContextType: { case: "validationContext", value } },
          requireClientCertificate: required,
        }),
      );
      for (const maxVersion of ["TLSv1.2", "TLSv1.3"]) {
        const answer = async (who: Who) =>
          (await getOverTls(port, "one.test", { ...as(who === "nobody" ? undefined : pairs[who]), maxVersion })).text;
        for (const who of welcome) expect(`${who}: ${(await answer(who)).slice(0, 12)}`).toBe(`${who}: HTTP/1.1 200`);
        for (const who of out) expect(`${who}: ${await answer(who)}`).toBe(`${who}: `);
      }
    });

  test("is judged by the default and the secret of a combined context together", async () => {
    const names = { matchSubjectAltNames: [{ matchPattern: { case: "suffix", value: "/sa/client" } as const }] };
    const tls: Tls = {
      commonTlsContext: {
        ...certificates(pairs.one),
        validationContextType: {
          case: "combinedValidationContext",
          value: { defaultValidationContext: names, validationContextSdsSecretConfig: { name: "roots" } },
        },
      },
      requireClientCertificate: true,
    };
    const roots = (pem: string) => ({ secrets: [trusted("roots", pem)] });
    proxy = await startFixture(configuration(tls, roots(authority.certPem)));
    const isIn = async (pair: Pair) => (await getOverTls(port, "one.test", as(pair))).text.startsWith("HTTP/1.1 200");
    expect([await isIn(pairs.client), await isIn(pairs.other), await isIn(pairs.foreign)]).toEqual([
      true,
      false,
      false,
    ]);
    await proxy.configure(configuration(tls, roots(stranger.certPem)));
    expect([await isIn(pairs.client), await isIn(pairs.other), await isIn(pairs.foreign)]).toEqual([
      false,
      false,
      true,
    ]);
  });

  test("is told to the application as the listener is configured", async () => {
    const spiffe = "spiffe://cluster.local/ns/test/sa/client";
    const hash = `Hash=${fingerprint(pairs.client)}`;
    const all = { subject: true, uri: true, dns: true, cert: true };
    const subject = 'Subject="CN=client,O=meshbed\\\\, Ltd"';
    const full = `${hash};Cert="${encodeURIComponent(new X509Certificate(pairs.client.certPem).toString())}";${subject};URI=${spiffe};DNS=client.test`;
    const table: [Forward, object, string | undefined, string | undefined][] = [
      [Forward.SANITIZE, all, undefined, undefined],
      [Forward.FORWARD_ONLY, all, "before", undefined],
      [Forward.APPEND_FORWARD, { uri: true }, `before,${hash};URI=${spiffe}`, undefined],
      [Forward.SANITIZE_SET, {}, hash, undefined],
      [Forward.SANITIZE_SET, all, full, undefined],
      [Forward.ALWAYS_FORWARD_ONLY, all, "before", "before"],
    ];
    const tls: Tls = {
      commonTlsContext: {
        ...certificates(pairs.one),
        validationContextType: { case: "validationContext", value: ca() },
      },
    };
    for (const [forwardClientCertDetails, setCurrentClientCertDetails, want, without] of table) {
      const manager = { forwardClientCertDetails, setCurrentClientCertDetails };
      proxy = await startFixture(configuration(tls, {}, manager));
      const told = async (pair: Pair | undefined) => {
        const got = await fetch(`https://127.0.0.1:${port}/`, {
          tls: { ...as(pair), rejectUnauthorized: false },
          headers: { "x-forwarded-client-cert": "before" },
        } as RequestInit);
        return ((await got.json()) as Record<string, string>)["x-forwarded-client-cert"];
      };
      expect(await told(pairs.client)).toBe(want!);
      expect(await told(undefined)).toBe(without!);
      await proxy.close();
    }
    proxy = undefined;
  });
});

describe("TLS passthrough", () => {
  test("by server name: the client sees the certificate of the server behind, the proxy none of the bytes", async () => {
    const behind = (pair: Pair, text: string) =>
      Bun.serve({
        hostname: "127.0.0.1",
        port: 0,
        tls: { cert: pair.certPem, key: pair.keyPem },
        fetch: () => new Response(text),
      });
    const one = behind(pairs.one, "first");
    const wild = behind(pairs.wild, "second");
    const chain = (name: string, serverName: string) =>
      tcpChain(name, { name, filterChainMatch: { serverNames: [serverName] } } as never);
    proxy = await startFixture({
      listeners: [listener("127.0.0.1", port, [chain("one", "one.test"), chain("wild", "*.wild.test")])],
      clusters: [cluster("one", [`127.0.0.1:${one.port}`]), cluster("wild", [`127.0.0.1:${wild.port}`])],
    });
    const first = await getOverTls(port, "one.test");
    expect([first.subject, first.text.slice(-5)]).toEqual(["one.test", "first"]);
    const second = await getOverTls(port, "x.wild.test");
    expect([second.subject, second.text.slice(-6)]).toEqual(["*.wild.test", "second"]);
    expect((await getOverTls(port, "other.test")).subject).toBeUndefined();
    await Promise.all([one.stop(true), wild.stop(true)]);
  });
});

describe("live", () => {
  test("secrets and suites are swapped under load: no request fails, old connections stay, new ones see the change", async () => {
    const tls = (cipherSuites: string[]): Tls => ({
      commonTlsContext: {
        tlsCertificateSdsSecretConfigs: [{ name: "one" }],
        tlsParams: { tlsMaximumProtocolVersion: Version.TLSv1_2, cipherSuites },
      },
    });
    const before = configuration(tls(["ECDHE-ECDSA-AES128-GCM-SHA256"]), { secrets: [keyPair("one", pairs.one)] });
    const after = configuration(tls(["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"]), {
      secrets: [keyPair("one", pairs.wild)],
    });
    proxy = await startFixture(before);
    const old = await keepOpen(port);
    let running = true;
    let done = 0;
    const failures: string[] = [];
    const load = async (keepalive: boolean): Promise<void> => {
      while (running) {
        const options = { tls: { rejectUnauthorized: false }, keepalive } as RequestInit;
        const got = await fetch(`https://127.0.0.1:${port}/`, options).catch((error: Error) => error);
        if (got instanceof Error) failures.push(got.message);
        else if (got.status !== 200 || !(await got.json())) failures.push(String(got.status));
        done++;
      }
    };
    const clients = [load(true), load(true), load(false), load(false)];
    for (let i = 0; i < 6; i++) {
      await realClock.sleep(60);
      await proxy.configure(i % 2 === 0 ? after : before);
    }
    await proxy.configure(after);
    running = false;
    await Promise.all(clients);
    expect(failures).toEqual([]);
    expect(done).toBeGreaterThan(100);
    expect(await old.get()).toStartWith("HTTP/1.1 200");
    old.close();
    const fresh = await getOverTls(port, "one.test");
    expect([fresh.subject, fresh.cipher]).toEqual(["*.wild.test", "ECDHE-ECDSA-AES256-GCM-SHA384"]);
  });
});

/** A connection that has made a request and can make another. */
async function keepOpen(at: number): Promise<{ get(): Promise<string>; close(): void }> {
  let text = "";
  let got = Promise.withResolvers<string>();
  const open = Promise.withResolvers<void>();
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port: at,
    tls: { rejectUnauthorized: false },
    socket: {
      handshake: () => open.resolve(),
      data(_socket, chunk) {
        text += chunk.toString();
        if (text.endsWith("}")) got.resolve(text);
      },
      close: () => got.resolve("closed"),
    },
  });
  await open.promise;
  const get = (): Promise<string> => {
    text = "";
    got = Promise.withResolvers();
    socket.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    return got.promise;
  };
  await get();
  return { get, close: () => socket.end() };
}
