// JSON Web Tokens (RFC 7519) without their signature: taking one apart and checking its claims. Failures are Envoy's sentences.

export const missing = "Jwt is missing";
export const unknownIssuer = "Jwt issuer is not configured";
export const audienceNotAllowed = "Audiences in Jwt are not allowed";
export const verificationFails = "Jwt verification fails";

/** Longer tokens are not looked at; a request's head is bounded anyway. */
const tokenLengthMax = 60 * 1024;

/** As Envoy's; "none" is not among them. */
const algorithms: ReadonlySet<string> = new Set(
  ["ES", "HS", "RS", "PS"].flatMap((family) => ["256", "384", "512"].map((bits) => family + bits)).concat("EdDSA"),
);

export interface Token {
  text: string;
  header: Record<string, unknown>;
  payload: Record<string, unknown>;
  /** As in the token. */
  payloadBase64: string;
  algorithm: string;
  /** Empty: not said. */
  keyId: string;
  issuer: string;
  subject: string;
  audiences: readonly string[];
  /** Seconds since the epoch; 0: not said. */
  notBefore: number;
  expires: number;
}

/** The token, or why it is none. */
export function parseToken(text: string): Token | string {
  const [first = "", second = "", third = ""] = text.split(".");
  if (text.length > tokenLengthMax || text.split(".").length !== 3 || !first || !second || !third)
    return "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
  const header = objectOf(first, "header");
  if (typeof header === "string") return header;
  const { alg, kid } = header;
  if (typeof alg !== "string") return "Jwt header [alg] field is required and must be a string";
  if (!algorithms.has(alg)) return "Jwt header [alg] is not supported";
  if (kid !== undefined && typeof kid !== "string") return "Jwt header [kid] field is not a string";
  const payload = objectOf(second, "payload");
  if (typeof payload === "string") return payload;
  const { iss, sub, aud, iat, nbf, exp, jti } = payload;
  for (const [name, value] of Object.entries({ iss, sub, jti }))
    if (value !== undefined && typeof value !== "string") return `Jwt payload [${name}] field is not a string`;
  for (const [name, value] of Object.entries({ iat, nbf, exp })) {
    if (value === undefined) continue;
    if (typeof value !== "number" || !Number.isFinite(value)) return `Jwt payload [${name}] field is not an integer`;
    if (value < 0) return `Jwt payload [${name}] field is not a positive integer`;
  }
  const audiences = aud === undefined ? [] : Array.isArray(aud) ? aud : [aud];
  if (audiences.some((entry) => typeof entry !== "string"))
    return "Jwt payload [aud] field is not a string or string list";
  if (!isBase64Url(third)) return "Jwt signature is an invalid Base64url encoded";
  return {
    text,
    header,
    payload,
    payloadBase64: second,
    algorithm: alg,
    keyId: kid ?? "",
    issuer: (iss as string | undefined) ?? "",
    subject: (sub as string | undefined) ?? "",
    audiences: audiences as string[],
    notBefore: (nbf as number | undefined) ?? 0,
    expires: (exp as number | undefined) ?? 0,
  };
}

const isBase64Url = (text: string): boolean => /^[A-Za-z0-9_-]+={0,2}$/.test(text);

function objectOf(part: string, what: "header" | "payload"): Record<string, unknown> | string {
  if (!isBase64Url(part)) return `Jwt ${what} is an invalid Base64url encoded`;
  try {
    const value: unknown = JSON.parse(Buffer.from(part, "base64url").toString());
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  return `Jwt ${what} is an invalid JSON`;
}

export interface ClaimRules {
  clockSkewSeconds: number;
  requiresExpiration: boolean;
  /** Infinity: any. */
  lifetimeSecondsMax: number;
  subject: ((subject: string) => boolean) | undefined;
}

/** Undefined when the token may be used now. */
export function checkClaims(token: Token, rules: ClaimRules, nowSeconds: number): string | undefined {
  const { expires, notBefore } = token;
  const skew = rules.clockSkewSeconds;
  if (nowSeconds + skew < notBefore) return "Jwt not yet valid";
  if (expires !== 0 && nowSeconds > expires + skew) return "Jwt is expired";
  const bounded = rules.lifetimeSecondsMax !== Number.POSITIVE_INFINITY;
  if (expires === 0 && (rules.requiresExpiration || bounded)) return verificationFails;
  if (bounded && expires - nowSeconds > rules.lifetimeSecondsMax) return verificationFails;
  if (rules.subject && !rules.subject(token.subject)) return verificationFails;
  return undefined;
}

/** Scheme and closing slash do not take part, as in Envoy. */
export const bareAudience = (audience: string): string => audience.replace(/^https?:\/\//, "").replace(/\/$/, "");

/** `allowed` in bare form; empty allows all. */
export const audienceAllowed = (token: Token, allowed: ReadonlySet<string>): boolean =>
  allowed.size === 0 || token.audiences.some((audience) => allowed.has(bareAudience(audience)));
