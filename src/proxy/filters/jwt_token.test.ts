// Tokens as tables: what is one, when it may be used, whom it is for.
import { describe, expect, test } from "bun:test";
import { audienceAllowed, bareAudience, type ClaimRules, checkClaims, parseToken, type Token } from "./jwt_token.ts";

const part = (value: unknown): string =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
const rs256 = { alg: "RS256" };
const tokenOf = (payload: object, header: unknown = rs256): string => `${part(header)}.${part(payload)}.c2ln`;

describe("parsing", () => {
  const shape = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
  const cases: [string, string, string][] = [
    ["two sections", "a.b", shape],
    ["four sections", "a.b.c.d", shape],
    ["an empty section", "a..c", shape],
    ["a header that is not base64url", `+.${part({})}.c2ln`, "Jwt header is an invalid Base64url encoded"],
    ["a header that is not JSON", `${part("x")}.${part({})}.c2ln`, "Jwt header is an invalid JSON"],
    ["a header that is a list", `${part([])}.${part({})}.c2ln`, "Jwt header is an invalid JSON"],
    ["no algorithm", tokenOf({}, {}), "Jwt header [alg] field is required and must be a string"],
    ["the algorithm none", tokenOf({}, { alg: "none" }), "Jwt header [alg] is not supported"],
    ["a numeric key id", tokenOf({}, { alg: "RS256", kid: 1 }), "Jwt header [kid] field is not a string"],
    ["a payload that is not JSON", `${part(rs256)}.${part("x")}.c2ln`, "Jwt payload is an invalid JSON"],
    ["a numeric issuer", tokenOf({ iss: 1 }), "Jwt payload [iss] field is not a string"],
    ["an expiry in words", tokenOf({ exp: "soon" }), "Jwt payload [exp] field is not an integer"],
    ["a negative expiry", tokenOf({ exp: -1 }), "Jwt payload [exp] field is not a positive integer"],
    ["a numeric audience", tokenOf({ aud: [1] }), "Jwt payload [aud] field is not a string or string list"],
    ["a bad signature", `${part(rs256)}.${part({})}.a+b`, "Jwt signature is an invalid Base64url encoded"],
  ];
  for (const [name, text, want] of cases) test(`${name} is refused`, () => expect(parseToken(text)).toBe(want));

  test("a good one is taken apart", () => {
    const token = parseToken(
      tokenOf({ iss: "i", sub: "s", aud: "a", nbf: 1, exp: 2, more: [1] }, { alg: "ES256", kid: "k" }),
    );
    expect(token).toMatchObject({
      algorithm: "ES256",
      keyId: "k",
      issuer: "i",
      subject: "s",
      audiences: ["a"],
      notBefore: 1,
      expires: 2,
    });
  });
});

describe("claims", () => {
  const rules: ClaimRules = {
    clockSkewSeconds: 60,
    requiresExpiration: false,
    lifetimeSecondsMax: Number.POSITIVE_INFINITY,
    subject: undefined,
  };
  const now = 10_000;
  const fails = "Jwt verification fails";
  const cases: [object, Partial<ClaimRules>, string | undefined][] = [
    [{}, {}, undefined],
    [{ exp: now - 60 }, {}, undefined],
    [{ exp: now - 61 }, {}, "Jwt is expired"],
    [{ exp: now - 2 }, { clockSkewSeconds: 1 }, "Jwt is expired"],
    [{ nbf: now + 60 }, {}, undefined],
    [{ nbf: now + 61 }, {}, "Jwt not yet valid"],
    [{}, { requiresExpiration: true }, fails],
    [{}, { lifetimeSecondsMax: 100 }, fails],
    [{ exp: now + 100 }, { lifetimeSecondsMax: 100 }, undefined],
    [{ exp: now + 101 }, { lifetimeSecondsMax: 100 }, fails],
    [{ sub: "spiffe://a" }, { subject: (subject: string) => subject.startsWith("spiffe://") }, undefined],
    [{ sub: "bob" }, { subject: (subject: string) => subject.startsWith("spiffe://") }, fails],
  ];
  for (const [payload, more, want] of cases)
    test(`${JSON.stringify(payload)} with ${JSON.stringify(more)}: ${want ?? "good"}`, () => {
      expect(checkClaims(parseToken(tokenOf(payload)) as Token, { ...rules, ...more }, now)).toBe(want as string);
    });
});

describe("audiences", () => {
  const cases: [string | string[], string[], boolean][] = [
    ["a", [], true],
    ["a", ["a", "b"], true],
    [["x", "b"], ["a", "b"], true],
    ["x", ["a"], false],
    [[], ["a"], false],
    ["https://api.test/", ["api.test"], true],
    ["api.test", ["http://api.test"], true],
  ];
  for (const [audience, allowed, want] of cases)
    test(`${JSON.stringify(audience)} ${want ? "is" : "is not"} among ${JSON.stringify(allowed)}`, () => {
      const token = parseToken(tokenOf({ aud: audience })) as Token;
      expect(audienceAllowed(token, new Set(allowed.map(bareAudience)))).toBe(want);
    });
});
