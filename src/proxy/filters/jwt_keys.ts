// JSON Web Key Sets (RFC 7517): reading one and checking a token's signature with its keys. The only importer of jose, loaded when needed.

import type { CryptoKey, JWK } from "jose";
import { type Token, verificationFails } from "./jwt_token.ts";

/** Keys past these are not read. */
const keysMax = 100;

interface Key {
  jwk: JWK;
  /** By algorithm; undefined: the key cannot be used with it. */
  imported: Map<string, Promise<CryptoKey | Uint8Array | undefined>>;
}

export const noSuchKey = "Jwks doesn't have key to match kid or alg from Jwt";

export class KeySet {
  readonly #keys: readonly Key[];

  constructor(keys: readonly JWK[]) {
    this.#keys = keys.map((jwk) => ({ jwk, imported: new Map() }));
  }

  /** Undefined when a key made the signature. A key that names an id or algorithm is used for those only. */
  async verify(token: Token): Promise<string | undefined> {
    const { compactVerify } = await import("jose");
    let matched = false;
    for (const key of this.#keys) {
      const { kid, alg } = key.jwk;
      if (token.keyId !== "" && kid !== undefined && kid !== token.keyId) continue;
      if (alg !== undefined && alg !== token.algorithm) continue;
      matched = true;
      const usable = await importKey(key, token.algorithm);
      if (usable === undefined) continue;
      try {
        await compactVerify(token.text, usable, { algorithms: [token.algorithm] });
        return undefined;
      } catch {
        // Another key may fit.
      }
    }
    return matched ? verificationFails : noSuchKey;
  }
}

function importKey(key: Key, algorithm: string): Promise<CryptoKey | Uint8Array | undefined> {
  let imported = key.imported.get(algorithm);
  if (imported === undefined) {
    imported = import("jose").then(
      ({ importJWK }) => importJWK(key.jwk, algorithm).catch(() => undefined),
      () => undefined,
    );
    key.imported.set(algorithm, imported);
  }
  return imported;
}

const kinds: ReadonlySet<unknown> = new Set(["RSA", "EC", "oct", "OKP"]);

/** The set, or why it is none. Keys of unknown kinds and those for encryption are left out. */
export function parseKeySet(text: string): KeySet | string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return "Jwks is an invalid JSON";
  }
  const keys = typeof value === "object" && value !== null ? (value as { keys?: unknown }).keys : undefined;
  if (keys === undefined) return "Jwks does not have [keys] field";
  if (!Array.isArray(keys)) return "[keys] in Jwks is not an array";
  const usable = keys.slice(0, keysMax).filter((key: JWK | null) => kinds.has(key?.kty) && key?.use !== "enc");
  return usable.length === 0 ? "Jwks doesn't have any valid public key" : new KeySet(usable as JWK[]);
}
