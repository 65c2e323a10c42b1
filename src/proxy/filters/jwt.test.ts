// JWT authentication through a running proxy, with tokens that jose signs: local and remote keys, requirements, what goes on.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, SignJWT } from "jose";
import {
  JwtAuthenticationSchema,
  type JwtProviderSchema,
  type JwtRequirementSchema,
  PerRouteConfigSchema,
} from "#gen/xds/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { cluster, milliseconds, pack, prefix, toCluster } from "../fixture.ts";
import { FilterFixture, httpFilter } from "./fixture.ts";

type Config = MessageInitShape<typeof JwtAuthenticationSchema>;
type ProviderInit = MessageInitShape<typeof JwtProviderSchema>;
type RequirementInit = MessageInitShape<typeof JwtRequirementSchema>;

const fixture = new FilterFixture();
const keys: Record<string, { privateKey: CryptoKey; jwk: JWK }> = {};
beforeAll(async () => {
  await fixture.start();
  for (const [name, alg] of [
    ["rsa", "RS256"],
    ["other", "RS256"],
    ["ec", "ES256"],
  ] as const) {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
    keys[name] = { privateKey, jwk: { ...(await exportJWK(publicKey)), kid: name, alg } };
  }
});
afterAll(() => fixture.stop());

const nowSeconds = Math.floor(Date.now() / 1000);
function sign(payload: Record<string, unknown> = {}, key = "rsa", header: object = {}): Promise<string> {
  const { privateKey, jwk } = keys[key]!;
  return new SignJWT({ iss: "issuer", exp: nowSeconds + 600, ...payload })
    .setProtectedHeader({ alg: jwk.alg!, kid: key, ...header })
    .sign(privateKey);
}
const jwks = (...names: string[]): string => JSON.stringify({ keys: names.map((name) => keys[name]!.jwk) });
const local = (...names: string[]): Pick<ProviderInit, "jwksSourceSpecifier"> => ({
  jwksSourceSpecifier: { case: "localJwks", value: { specifier: { case: "inlineString", value: jwks(...names) } } },
});
const needs = (providerName: string): RequirementInit => ({
  requiresType: { case: "providerName", value: providerName },
});

async function serve(
  providers: Record<string, ProviderInit>,
  requires: RequirementInit,
  more: Config = {},
): Promise<void> {
  const rule = { match: prefix("/"), requirementType: { case: "requires", value: requires } } as const;
  await fixture.serve(
    { httpFilters: [httpFilter("jwt", JwtAuthenticationSchema, { providers, rules: [rule], ...more })] },
    [{ match: prefix("/"), action: toCluster("a") }],
  );
}
const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
async function ask(init: RequestInit = {}, path = "/"): Promise<string> {
  const answer = await fixture.fetch(path, init);
  return answer.status === 200 ? "200" : `${answer.status} ${await answer.text()}`;
}

describe("one provider", () => {
  beforeEach(() => serve({ p: { issuer: "issuer", audiences: ["api"], ...local("rsa", "ec") } }, needs("p")));

  test("good tokens pass, whatever key of the set signed them; the token itself stays here", async () => {
    for (const key of ["rsa", "ec"]) expect(await ask(bearer(await sign({ aud: "api" }, key)))).toBe("200");
    const { headers, path } = await fixture.seen(`/?x=1&access_token=${await sign({ aud: "api" })}&y=2`);
    expect([headers["authorization"], path]).toEqual([undefined as unknown as string, "/?x=1&y=2"]);
  });

  test("every other token is refused with its reason and a challenge", async () => {
    const tampered = async () => {
      const [header, , signature] = (await sign({ aud: "api" })).split(".");
      return `${header}.${Buffer.from('{"iss":"issuer","aud":"api"}').toString("base64url")}.${signature}`;
    };
    const refused: [string | undefined, string][] = [
      [undefined, "401 Jwt is missing"],
      ["x.y", "401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"],
      [await sign({ aud: "api", iss: "other" }), "401 Jwt issuer is not configured"],
      [await sign({ aud: "api", exp: nowSeconds - 100 }), "401 Jwt is expired"],
      [await sign({ aud: "api", nbf: nowSeconds + 100 }), "401 Jwt not yet valid"],
      [await sign({ aud: "else" }), "403 Audiences in Jwt are not allowed"],
      [await sign({ aud: "api" }, "other"), "401 Jwks doesn't have key to match kid or alg from Jwt"],
      [await sign({ aud: "api" }, "other", { kid: "rsa" }), "401 Jwt verification fails"],
      [await tampered(), "401 Jwt verification fails"],
    ];
    for (const [token, want] of refused) expect(await ask(token === undefined ? {} : bearer(token))).toBe(want);
    const challenge = async (init: RequestInit) =>
      (await fixture.fetch("/p?q=1", init)).headers.get("www-authenticate");
    const realm = `Bearer realm="${fixture.base}/p?q=1"`;
    expect(await challenge({})).toBe(realm);
    expect(await challenge(bearer("x.y"))).toBe(`${realm}, error="invalid_token"`);
    expect(fixture.backend.requests.length).toBe(0);
  });

  test("a public key does not serve as the secret of an HMAC", async () => {
    const secret = new TextEncoder().encode(JSON.stringify(keys["rsa"]!.jwk));
    const forged = await new SignJWT({ iss: "issuer", aud: "api" })
      .setProtectedHeader({ alg: "HS256", kid: "rsa" })
      .sign(secret);
    expect(await ask(bearer(forged))).toStartWith("401");
  });

  test("a second, bad token spoils the request", async () => {
    const good = await sign({ aud: "api" });
    expect(await ask(bearer(good), `/?access_token=${await sign({ aud: "api" }, "other")}`)).toStartWith("401");
  });
});

test("a token is found where the provider says, and its claims go on as it says", async () => {
  await serve(
    {
      p: {
        issuer: "issuer",
        ...local("rsa"),
        fromHeaders: [{ name: "X-Token", valuePrefix: "jwt " }],
        fromCookies: ["session"],
        forward: true,
        forwardPayloadHeader: "x-payload",
        padForwardPayloadHeader: true,
        claimToHeaders: [
          { headerName: "x-user", claimName: "sub" },
          { headerName: "x-level", claimName: "nested.level" },
        ],
      },
    },
    needs("p"),
  );
  const token = await sign({ sub: "ann", nested: { level: 3 } });
  const { headers } = await fixture.seen("/", {
    headers: { "x-token": `jwt ${token}`, "x-user": "forged", "x-payload": "forged" },
  });
  expect([headers["x-user"], headers["x-level"], headers["x-token"]]).toEqual(["ann", "3", `jwt ${token}`]);
  expect(JSON.parse(Buffer.from(headers["x-payload"]!, "base64url").toString())).toMatchObject({ sub: "ann" });
  expect(headers["x-payload"]!.length % 4).toBe(0);
  expect(await ask({ headers: { cookie: `a=b; session=${token}` } })).toBe("200");
  expect(await ask(bearer(token))).toBe("401 Jwt is missing");
});

describe("requirements", () => {
  const providers = () => ({
    a: { issuer: "a", ...local("rsa") },
    b: { issuer: "b", ...local("ec"), fromHeaders: [{ name: "x-b" }] },
  });
  const list = (...requirements: RequirementInit[]) => ({ requirements });
  const missingAllowed: RequirementInit = { requiresType: { case: "allowMissing", value: {} } };
  const anythingAllowed: RequirementInit = { requiresType: { case: "allowMissingOrFailed", value: {} } };
  const any = (...all: RequirementInit[]): RequirementInit => ({
    requiresType: { case: "requiresAny", value: list(...all) },
  });
  const all = (...of: RequirementInit[]): RequirementInit => ({
    requiresType: { case: "requiresAll", value: list(...of) },
  });
  const outcome = async (requires: RequirementInit): Promise<Record<string, string>> => {
    await serve(providers(), requires);
    const a = `Bearer ${await sign({ iss: "a" })}`;
    const b = await sign({ iss: "b" }, "ec");
    return {
      none: (await ask()).slice(0, 3),
      a: (await ask({ headers: { authorization: a } })).slice(0, 3),
      both: (await ask({ headers: { authorization: a, "x-b": b } })).slice(0, 3),
      bad: await ask(bearer(await sign({ iss: "a" }, "other"))),
    };
  };
  const mismatch = "401 Jwks doesn't have key to match kid or alg from Jwt";
  const cases: [string, RequirementInit, Record<string, string>][] = [
    ["any of two", any(needs("a"), needs("b")), { none: "401", a: "200", both: "200", bad: mismatch }],
    ["all of two", all(needs("a"), needs("b")), { none: "401", a: "401", both: "200", bad: mismatch }],
    ["a or nothing", any(needs("a"), missingAllowed), { none: "200", a: "200", both: "200", bad: mismatch }],
    ["a or whatever", any(needs("a"), anythingAllowed), { none: "200", a: "200", both: "200", bad: "200" }],
    ["good or missing", missingAllowed, { none: "200", a: "200", both: "200", bad: mismatch }],
    ["nothing", {}, { none: "200", a: "200", both: "200", bad: "200" }],
  ];
  for (const [name, requires, want] of cases)
    test(`${name}`, async () => expect(await outcome(requires)).toEqual(want));

  test("a route may lift or name its requirement; preflights can be let through; reasons can be kept quiet", async () => {
    const perRoute = (init: MessageInitShape<typeof PerRouteConfigSchema>) => ({
      jwt: pack(PerRouteConfigSchema, init),
    });
    const config: Config = {
      providers: providers(),
      requirementMap: { strict: needs("a") },
      bypassCorsPreflight: true,
      stripFailureResponse: true,
    };
    await fixture.serve({ httpFilters: [httpFilter("jwt", JwtAuthenticationSchema, config)] }, [
      {
        match: prefix("/strict"),
        action: toCluster("a"),
        typedPerFilterConfig: perRoute({ requirementSpecifier: { case: "requirementName", value: "strict" } }),
      },
      {
        match: prefix("/wrong"),
        action: toCluster("a"),
        typedPerFilterConfig: perRoute({ requirementSpecifier: { case: "requirementName", value: "nobody" } }),
      },
      { match: prefix("/"), action: toCluster("a") },
    ]);
    expect([await ask({}, "/strict"), await ask({}, "/wrong"), await ask({}, "/")]).toEqual(["401 ", "403 ", "200"]);
    const preflight = { method: "OPTIONS", headers: { origin: "x", "access-control-request-method": "GET" } };
    expect(await ask(preflight, "/strict")).toBe("200");
  });
});

test("the route can be chosen again by a claim", async () => {
  const config: Config = {
    providers: { p: { issuer: "issuer", ...local("rsa"), payloadInMetadata: "payload", clearRouteCache: true } },
    rules: [{ match: prefix("/"), requirementType: { case: "requires", value: needs("p") } }],
  };
  const group = {
    filter: "envoy.filters.http.jwt_authn",
    path: ["payload", "group"].map((key) => ({ segment: { case: "key", value: key } as const })),
    value: { matchPattern: { case: "stringMatch", value: { matchPattern: { case: "exact", value: "ops" } } } as const },
  };
  const direct = { status: 201, body: { specifier: { case: "inlineString", value: "ops" } as const } };
  await fixture.serve({ httpFilters: [httpFilter("jwt", JwtAuthenticationSchema, config)] }, [
    { match: { ...prefix("/"), dynamicMetadata: [group] }, action: { case: "directResponse", value: direct } },
    { match: prefix("/"), action: toCluster("a") },
  ]);
  expect(await ask(bearer(await sign({ group: "ops" })))).toBe("201 ops");
  expect(await ask(bearer(await sign({ group: "dev" })))).toBe("200");
});

describe("remote keys", () => {
  const remote = (more: object = {}): ProviderInit => ({
    issuer: "issuer",
    jwksSourceSpecifier: {
      case: "remoteJwks",
      value: {
        httpUri: {
          uri: "http://keys.test/certs?x=1",
          httpUpstreamType: { case: "cluster", value: "keys" },
          timeout: milliseconds(500),
        },
        ...more,
      },
    },
  });
  const fetched: string[] = [];
  let answers: (() => Response)[] = [];
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      fetched.push(`${request.headers.get("host")} ${new URL(request.url).pathname}`);
      return (answers.shift() ?? (() => new Response(jwks("rsa"))))();
    },
  });
  afterAll(() => void server.stop(true));
  const serveRemote = async (provider: ProviderInit): Promise<void> => {
    fetched.length = 0;
    const config: Config = {
      providers: { p: provider },
      rules: [{ match: prefix("/"), requirementType: { case: "requires", value: needs("p") } }],
    };
    await fixture.serve(
      { httpFilters: [httpFilter("jwt", JwtAuthenticationSchema, config)] },
      [{ match: prefix("/"), action: toCluster("a") }],
      { clusters: [cluster("keys", [`127.0.0.1:${server.port}`])] },
    );
  };

  test("are fetched once for all who wait and kept", async () => {
    await serveRemote(remote());
    const token = await sign();
    const outcomes = await Promise.all(Array.from({ length: 5 }, () => ask(bearer(token))));
    expect([...new Set(outcomes), await ask(bearer(token)), ...fetched]).toEqual(["200", "200", "keys.test /certs"]);
  });
  test("are fetched again when they have expired", async () => {
    await serveRemote(remote({ cacheDuration: milliseconds(1) }));
    expect(await ask(bearer(await sign()))).toBe("200");
    await Bun.sleep(5);
    answers = [() => new Response(jwks("other"))];
    expect(await ask(bearer(await sign({}, "other")))).toBe("200");
    expect(fetched.length).toBe(2);
  });
  test("are fetched before they expire for a token of a key they lack, but not for every such token", async () => {
    await serveRemote(remote());
    expect(await ask(bearer(await sign()))).toBe("200");
    answers = [() => new Response(jwks("other"))];
    const rotated = bearer(await sign({}, "other"));
    expect((await ask(rotated)).slice(0, 3)).toBe("401");
    expect(fetched.length).toBe(1);
    await Bun.sleep(1_010);
    expect([await ask(rotated), fetched.length]).toEqual(["200", 2]);
    expect([(await ask(bearer(await sign()))).slice(0, 3), fetched.length]).toEqual(["401", 2]);
  });
  test("that do not come refuse the request, or come by a retry; a configured prefetch needs no request", async () => {
    const broken = () => new Response("", { status: 500 });
    answers = [broken];
    await serveRemote(remote());
    expect(await ask(bearer(await sign()))).toBe("401 Jwks remote fetch is failed");
    answers = [broken];
    await serveRemote(remote({ retryPolicy: { numRetries: 1, retryBackOff: { baseInterval: milliseconds(1) } } }));
    expect(await ask(bearer(await sign()))).toBe("200");
    answers = [];
    await serveRemote(remote({ asyncFetch: {} }));
    for (let i = 0; i < 100 && fetched.length === 0; i++) await Bun.sleep(5);
    expect(fetched.length).toBe(1);
  });
});
