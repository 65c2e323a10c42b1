// What is wrong with a PeerAuthentication or a RequestAuthentication (Istio pkg/config/validation).

import { child, forbidden, invalid, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import type { JwtRule } from "../security.ts";
import type { PeerAuthentication, RequestAuthentication } from "../types.ts";
import { validateDuration, validateHeaderName, validateRequired } from "./istio-rules.ts";
import { validateAttached, validateSelector } from "./security-rules.ts";

export function validatePeerAuthentication({ spec = {} }: PeerAuthentication): FieldError[] {
  const errors = validateSelector(spec.selector);
  const path = "spec.portLevelMtls";
  if (spec.portLevelMtls === undefined) return errors;
  const ports = Object.keys(spec.portLevelMtls);
  if (!Object.keys(spec.selector?.matchLabels ?? {}).length)
    errors.push(forbidden(path, "port level mTLS cannot be set without a workload selector"));
  if (ports.length === 0) errors.push(required(path, "port level mTLS, if defined, must have at least one element"));
  for (const port of ports)
    if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65535)
      errors.push(invalid(path, port, "port number must be in the range 1..65535"));
  return errors;
}

export function validateRequestAuthentication(object: RequestAuthentication): FieldError[] {
  const spec = object.spec ?? {};
  const missing = validateRequired({ spec }, "io.istio.security.v1.RequestAuthentication");
  if (missing.length > 0) return missing;
  const errors = validateAttached(spec);
  spec.jwtRules?.forEach((rule, i) => {
    errors.push(...validateJwtRule(rule, child("spec.jwtRules", i)));
  });
  return errors;
}

function validateJwtRule(rule: JwtRule, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (!rule.issuer) errors.push(required(child(path, "issuer"), "issuer must be set"));
  rule.audiences?.forEach((audience, i) => {
    if (audience === "") errors.push(required(child(path, "audiences", i), "audience must be non-empty string"));
  });
  const uri = rule.jwksUri ?? rule.jwks_uri;
  if (uri && !/^https?:\/\/[^/]/.test(uri))
    errors.push(invalid(child(path, "jwksUri"), uri, "must be an http or https URL"));
  if (uri && rule.jwks) errors.push(forbidden(child(path, "jwks"), "only one of jwks or jwksUri should be specified"));
  if (rule.jwks && keysOf(rule.jwks) === undefined)
    errors.push(invalid(child(path, "jwks"), rule.jwks, "must be a JSON Web Key Set"));
  rule.fromHeaders?.forEach(({ name }, i) => {
    errors.push(...validateHeaderName(name, child(path, "fromHeaders", i, "name")));
  });
  rule.fromParams?.forEach((param, i) => {
    if (param === "") errors.push(required(child(path, "fromParams", i), "params must be non-empty string"));
  });
  rule.fromCookies?.forEach((cookie, i) => {
    if (cookie === "") errors.push(required(child(path, "fromCookies", i), "cookie name must be non-empty string"));
  });
  rule.outputClaimToHeaders?.forEach(({ header, claim }, i) => {
    const at = child(path, "outputClaimToHeaders", i);
    errors.push(...validateHeaderName(header, child(at, "header")));
    if (header.startsWith(":")) errors.push(invalid(child(at, "header"), header, "must not be a pseudo header"));
    if (claim === "") errors.push(required(child(at, "claim"), "claim name must be non-empty string"));
  });
  rule.spaceDelimitedClaims?.forEach((claim, i) => {
    if (claim === "")
      errors.push(required(child(path, "spaceDelimitedClaims", i), "claim name must be non-empty string"));
  });
  errors.push(...validateDuration(rule.timeout, child(path, "timeout")));
  return errors;
}

function keysOf(jwks: string): unknown[] | undefined {
  try {
    const { keys } = JSON.parse(jwks) as { keys?: unknown };
    return Array.isArray(keys) ? keys : undefined;
  } catch {
    return undefined;
  }
}
