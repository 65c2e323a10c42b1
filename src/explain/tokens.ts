// Tokens whose keys nobody here has: signed anew with a key of our own, which every RequestAuthentication of the explained world trusts.

import { createHash, createPrivateKey, createPublicKey, sign } from "node:crypto";
import type { RequestAuthentication } from "../api/types.ts";
import { jwksUriOf } from "../mesh/translate-security-jwt.ts";
import type { MeshObjects } from "../mesh/types.ts";

/** Fixed, so that equal questions have equal answers. It protects nothing: it exists in explanations only. */
const privateKey = createPrivateKey({ key: pkcs8(), format: "der", type: "pkcs8" });
const keyId = "meshbed-explain";
const publicKey = { ...createPublicKey(privateKey).export({ format: "jwk" }), kid: keyId, alg: "EdDSA", use: "sig" };

export const testKeySet: string = JSON.stringify({ keys: [publicKey] });

/** An Ed25519 key from a fixed seed (RFC 8410). */
function pkcs8(): Buffer {
  const seed = createHash("sha256").update("meshbed explain").digest();
  return Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]);
}

/** Every rule trusts our key besides its own; keys by URI are not fetched, so that ours stands for them. */
export function withTestKey(objects: MeshObjects): MeshObjects {
  if (objects.requestAuthentications.length === 0) return objects;
  return { ...objects, requestAuthentications: objects.requestAuthentications.map(trusting) };
}

function trusting(object: RequestAuthentication): RequestAuthentication {
  const jwtRules = (object.spec?.jwtRules ?? []).map(({ jwksUri: _uri, jwks_uri: _old, jwks, ...rule }) => ({
    ...rule,
    jwks: JSON.stringify({ keys: [publicKey, ...keysIn(jwks)] }),
  }));
  return { ...object, spec: { ...object.spec, jwtRules } };
}

function keysIn(jwks: string | undefined): unknown[] {
  try {
    const { keys } = JSON.parse(jwks ?? "{}") as { keys?: unknown };
    return Array.isArray(keys) ? keys : [];
  } catch {
    // The proxy would have no keys either.
    return [];
  }
}

const base64 = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A token with these claims that the explained world accepts as signed. */
export function tokenOf(claims: Readonly<Record<string, unknown>>, nowMs: number): string {
  const body = { exp: Math.floor(nowMs / 1000) + 3600, ...claims };
  return signed(base64(body));
}

/** Tokens of issuers whose keys are at a URI, which nobody fetches here: the same claims, signed by us. Other text stays. */
export function withTrustedTokens(objects: MeshObjects, text: string): string {
  if (objects.requestAuthentications.length === 0) return text;
  return text.replace(/[\w-]+\.([\w-]+)\.[\w-]+/g, (whole, payload: string) => {
    const issuer = issuerOf(payload);
    const rules = objects.requestAuthentications.flatMap(({ spec }) => spec?.jwtRules ?? []);
    const isByUri = rules.some((rule) => rule.issuer === issuer && !rule.jwks && jwksUriOf(rule) !== undefined);
    return isByUri ? signed(payload) : whole;
  });
}

function issuerOf(payload: string): unknown {
  try {
    return (JSON.parse(Buffer.from(payload, "base64url").toString()) as { iss?: unknown } | null)?.iss;
  } catch {
    // No token: three words with dots between.
    return undefined;
  }
}

function signed(payload: string): string {
  const text = `${base64({ alg: "EdDSA", typ: "JWT", kid: keyId })}.${payload}`;
  return `${text}.${sign(null, Buffer.from(text), privateKey).toString("base64url")}`;
}
