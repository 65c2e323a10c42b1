// RequestAuthentication by traffic: keys inline and served by a pod, their rotation, where tokens are looked for, what is passed on, and routes by claims.
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { came } from "./echo.ts";
import { type Client, effectMs, type SecurityBed, server, startSecurityBed } from "./security-bed.ts";
import { until } from "./testbed.ts";

const issuer = "https://issuer.example.com";
/** Answers with the keys that it was given last in a field. */
const keyServer = `let keys = "{}";
Bun.serve({ port: 8080, fetch: (r) => { keys = r.headers.get("x-keys") ?? keys; return new Response(keys); } });`;

let bed: SecurityBed;
const pairs = new Map<string, Awaited<ReturnType<typeof generateKeyPair>>>();
beforeAll(async () => {
  bed = await startSecurityBed();
  for (const kid of ["1", "2", "stranger"]) pairs.set(kid, await generateKeyPair("RS256"));
}, 90_000);
afterAll(() => bed?.down());
afterEach(async () => {
  await bed.kubectl("delete", "requestauthentication,authorizationpolicy", "--all", "-n", "sec");
});

async function jwks(...kids: string[]): Promise<string> {
  const keys = kids.map(async (kid) => ({ ...(await exportJWK(pairs.get(kid)!.publicKey)), kid, alg: "RS256" }));
  return JSON.stringify({ keys: await Promise.all(keys) });
}
const token = (
  claims: object = {},
  more: { kid?: string; from?: string; audience?: string; lifetime?: string } = {},
) => {
  const { kid = "1", from = issuer, audience, lifetime = "10m" } = more;
  const made = new SignJWT({ ...claims })
    .setProtectedHeader({ alg: "RS256", kid })
    .setIssuer(from)
    .setExpirationTime(lifetime);
  return (audience ? made.setAudience(audience) : made).setSubject("alice").sign(pairs.get(kid)!.privateKey);
};
const bearer = (text: string) => ({ authorization: `Bearer ${text}` });
const asks: readonly Client[] = ["sec/near", "sec/far", "outside/near"];
const each = (code: number) => Object.fromEntries(asks.map((client) => [client, code]));
const rules = (...jwtRules: object[]) => bed.object("RequestAuthentication", "server", { ...server, jwtRules });

test("inline keys: a good token passes, a bad one never, none where none is asked for; its subject is a principal", async () => {
  await rules({ issuer, jwks: await jwks("1"), audiences: ["shop"] });
  const good = bearer(await token({ groups: ["staff"], realm: { roles: ["admin"] } }, { audience: "shop" }));
  await bed.settle(each(401), { headers: bearer(await token({}, { kid: "stranger", audience: "shop" })) });
  await bed.settle(each(200), { headers: good });
  await bed.settle(each(200));
  expect(await bed.status("sec/far", { headers: bearer("no.token.at-all") })).toBe(401);
  expect(await bed.status("sec/far", { headers: bearer(await token({}, { audience: "shop", lifetime: "-5m" })) })).toBe(
    401,
  );
  expect(
    await bed.status("sec/far", { headers: bearer(await token({}, { from: "https://else", audience: "shop" })) }),
  ).toBe(401);
  // As Envoy: a good token, but for somebody else.
  expect(await bed.status("sec/far", { headers: bearer(await token({}, { audience: "else" })) })).toBe(403);
  const allow = (rule: object) => bed.object("AuthorizationPolicy", "token", { ...server, rules: [rule] });
  const holding: object[] = [
    { from: [{ source: { requestPrincipals: [`${issuer}/alice`] } }] },
    { from: [{ source: { requestPrincipals: ["*"], notRequestPrincipals: [`${issuer}/bob`] } }] },
    { when: [{ key: "request.auth.principal", values: ["*/alice"] }] },
    { when: [{ key: "request.auth.audiences", values: ["shop"] }] },
    { when: [{ key: "request.auth.claims[groups]", values: ["staff"], notValues: ["guest"] }] },
    { when: [{ key: "request.auth.claims[realm][roles]", values: ["adm*"] }] },
  ];
  for (const rule of holding) {
    await allow(rule);
    await bed.settle(each(403));
    await bed.settle(each(200), { headers: good });
  }
  await allow({ when: [{ key: "request.auth.presenter", values: ["app"] }] });
  await bed.settle(each(403), { headers: good });
  const presented = await token({ azp: "app" }, { audience: "shop" });
  expect(await bed.status("sec/far", { headers: bearer(presented) })).toBe(200);
}, 40_000);

test("tokens are taken from fields, parameters and cookies; what of them goes on is as told", async () => {
  await rules({
    issuer,
    jwks: await jwks("1"),
    fromHeaders: [{ name: "x-token", prefix: "JWT " }],
    fromParams: ["token"],
    fromCookies: ["session"],
    outputPayloadToHeader: "x-payload",
    outputClaimToHeaders: [{ header: "x-sub", claim: "sub" }],
  });
  const good = await token();
  const bad = await token({}, { kid: "stranger" });
  await bed.settle(each(401), { headers: { "x-token": `JWT ${bad}` } });
  const client: Client = "sec/far";
  const at = (url: string, headers: Record<string, string> = {}) =>
    bed.from(client, { url: `http://server.sec${url}`, headers });
  expect((await at(`/?token=${bad}`)).status).toBe(401);
  expect((await at("/", { cookie: `session=${bad}` })).status).toBe(401);
  // Not where it is looked for.
  expect((await at("/", bearer(bad))).status).toBe(200);
  const seen = came(await at("/", { "x-token": `JWT ${good}`, "x-sub": "forged", "x-payload": "forged" })).headers;
  expect([seen["x-token"], seen["x-sub"]]).toEqual([undefined!, "alice"]);
  expect(JSON.parse(Buffer.from(seen["x-payload"]!, "base64url").toString())).toMatchObject({
    iss: issuer,
    sub: "alice",
  });
  expect(came(await at(`/p?a=1&token=${good}`)).path).toBe("/p?a=1");
  expect(came(await at("/", { cookie: `session=${good}` })).headers["x-sub"]).toBe("alice");
  expect(came(await at("/", { "x-sub": "forged" })).headers["x-sub"]).toBeUndefined();
  await rules({ issuer, jwks: await jwks("1"), forwardOriginalToken: true });
  const authorization = `Bearer ${good}`;
  await until(
    "the token goes on",
    effectMs,
    async () => came(await at("/", { authorization })).headers["authorization"] === authorization,
  );
}, 40_000);

test("several issuers: a token is judged by its own", async () => {
  await rules({ issuer, jwks: await jwks("1") }, { issuer: "https://second", jwks: await jwks("2") });
  await bed.settle(each(401), { headers: bearer(await token({}, { kid: "2" })) });
  await bed.settle(each(200), { headers: bearer(await token({}, { kid: "2", from: "https://second" })) });
  await bed.settle(each(200), { headers: bearer(await token()) });
  await bed.settle(each(401), { headers: bearer(await token({}, { from: "https://third" })) });
  await bed.settle(each(200));
}, 40_000);

test("keys served by a pod: fetched, fetched again when they rotate, and without them no token is good", async () => {
  const metadata = { name: "keys", namespace: "outside", labels: { app: "keys" } };
  const container = {
    name: "keys",
    image: "debian",
    command: [process.execPath, "-e", keyServer],
    ports: [{ containerPort: 8080 }],
  };
  const spec = { selector: { app: "keys" }, ports: [{ name: "http", port: 8000, targetPort: 8080 }] };
  const items = [
    { apiVersion: "v1", kind: "Pod", metadata, spec: { nodeName: "worker3", containers: [container] } },
    { apiVersion: "v1", kind: "Service", metadata: { name: "keys", namespace: "outside" }, spec },
  ];
  await bed.apply(JSON.stringify({ apiVersion: "v1", kind: "List", items }));
  const give = async (...kids: string[]) => {
    const keys = await jwks(...kids);
    await until("the keys are served", effectMs, async () => {
      const answer = await bed.from("sec/near", { url: "http://keys.outside:8000/", headers: { "x-keys": keys } });
      return answer.body === keys;
    });
  };
  await give("1");
  await rules({ issuer, jwksUri: "http://keys.outside.svc.cluster.local:8000/keys" });
  const [first, second] = [bearer(await token()), bearer(await token({}, { kid: "2" }))];
  await bed.settle(each(401), { headers: second });
  await bed.settle(each(200), { headers: first });
  await give("2");
  await bed.settle(each(200), { headers: second });
  await bed.settle(each(401), { headers: first });
  await rules({ issuer, jwksUri: "http://keys.outside.svc.cluster.local:8001/keys" });
  await bed.settle(each(401), { headers: second });
  await bed.settle(each(200));
}, 60_000);

test("a gateway routes by claims of good tokens only", async () => {
  const selector = { matchLabels: { istio: "ingressgateway" } };
  const metadata = { namespace: "istio-system" };
  await bed.object(
    "RequestAuthentication",
    "edge",
    { selector, jwtRules: [{ issuer, jwks: await jwks("1") }] },
    metadata,
  );
  const to = (name: string, namespace: string) => [{ destination: { host: `${name}.${namespace}.svc.cluster.local` } }];
  await bed.object("VirtualService", "claims", {
    hosts: ["claims.test"],
    gateways: ["test"],
    http: [
      { match: [{ headers: { "@request.auth.claims.groups": { exact: "staff" } } }], route: to("near", "sec") },
      { match: [{ headers: { "@request.auth.claims[realm][level]": { regex: "[3-9]" } } }], route: to("far", "sec") },
      { route: to("server", "sec") },
    ],
  });
  const pod = async (claims?: object, more = {}): Promise<string> => {
    const headers = claims ? bearer(await token(claims, more)) : {};
    const response = await bed.get("/", { host: "claims.test", ...headers });
    return response.status === 200
      ? (JSON.parse(await response.text()) as { pod: string }).pod
      : String(response.status);
  };
  await until("staff is led elsewhere", effectMs, async () => (await pod({ groups: ["guests", "staff"] })) === "near");
  expect(await pod({ groups: "staff" })).toBe("near");
  expect(await pod({ realm: { level: "4" } })).toBe("far");
  expect(await pod({ realm: { level: "2" } })).toBe("server");
  expect(await pod()).toBe("server");
  expect(await pod({ groups: ["staff"] }, { kid: "stranger" })).toBe("401");
  const forged = await bed
    .get("/", { host: "claims.test", "@request.auth.claims.groups": "staff" })
    .catch(() => undefined);
  if (forged?.status === 200) expect(((await forged.json()) as { pod: string }).pod).toBe("server");
  await bed.remove("RequestAuthentication", "edge", "istio-system");
}, 40_000);
