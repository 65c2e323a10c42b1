// What a rule of the JWT filter asks for: one provider, any, all, or a token only if there is one.

import type { JwtRequirement } from "#gen/xds/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import type { FilterRequest } from "../filter.ts";
import { findTokens, type Provider } from "./jwt_provider.ts";
import { bareAudience, missing, unknownIssuer } from "./jwt_token.ts";

/** Undefined when it is met, else why not. `active` turns false when the request is gone. */
export type Requirement = (exchange: FilterRequest, active: () => boolean) => Promise<string | undefined>;

export type Providers = ReadonlyMap<string, Provider>;

export function compileRequirement(message: JwtRequirement | undefined, providers: Providers): Requirement {
  const type = message?.requiresType;
  switch (type?.case) {
    case "providerName":
      return byProvider(providerOf(type.value, providers), undefined);
    case "providerAndAudiences": {
      const { providerName, audiences } = type.value;
      const own = audiences.length > 0 ? new Set(audiences.map(bareAudience)) : undefined;
      return byProvider(providerOf(providerName, providers), own);
    }
    case "requiresAny":
      return anyOf(type.value.requirements, providers);
    case "requiresAll":
      return allOf(type.value.requirements.map((entry) => compileRequirement(entry, providers)));
    case "allowMissing":
      return byIssuer([...providers.values()], (failure) => failure === missing);
    case "allowMissingOrFailed":
      return byIssuer([...providers.values()], () => true);
    default:
      return async () => undefined;
  }
}

function providerOf(name: string, providers: Providers): Provider {
  const provider = providers.get(name);
  if (!provider) throw new MeshbedError("JWT_INVALID", `JWT provider ${name} is required but not configured`);
  return provider;
}

function byProvider(provider: Provider, audiences: ReadonlySet<string> | undefined): Requirement {
  return async (exchange, active) => {
    provider.sanitize(exchange);
    const found = findTokens(exchange.request, provider.locations);
    if (found.length === 0) return missing;
    for (const { text, at } of found) {
      const result = await provider.check(text, audiences);
      if (!active()) return missing;
      if ("failure" in result) {
        provider.reject(exchange, result.failure);
        return result.failure;
      }
      provider.accept(exchange, result.token, at);
    }
    return undefined;
  };
}

/** Every provider's tokens, each judged by the provider with its issuer. */
function byIssuer(providers: readonly Provider[], forgives: (failure: string) => boolean): Requirement {
  return async (exchange, active) => {
    let failure: string | undefined = missing;
    for (const provider of providers) {
      const result = await byProvider(provider, undefined)(exchange, active);
      if (result === undefined) failure = failure === missing ? undefined : failure;
      else if (result !== missing && result !== unknownIssuer) failure = result;
      else if (result === unknownIssuer && failure === missing) failure = result;
    }
    return failure === undefined || forgives(failure) ? undefined : failure;
  };
}

/** The first that is met ends it. Of several failures the telling one: not that a token is missing or another issuer's. */
function anyOf(messages: readonly JwtRequirement[], providers: Providers): Requirement {
  const kinds = messages.map(({ requiresType }) => requiresType.case);
  const forgivesAll = kinds.includes("allowMissingOrFailed");
  const forgivesMissing = kinds.includes("allowMissing");
  const requirements = messages
    .filter((_message, index) => kinds[index] !== "allowMissing" && kinds[index] !== "allowMissingOrFailed")
    .map((message) => compileRequirement(message, providers));
  return async (exchange, active) => {
    let failure = missing;
    for (const requirement of requirements) {
      const result = await requirement(exchange, active);
      if (result === undefined) return undefined;
      if ((result !== missing && result !== unknownIssuer) || failure === missing) failure = result;
    }
    return forgivesAll || (forgivesMissing && failure === missing) ? undefined : failure;
  };
}

function allOf(requirements: readonly Requirement[]): Requirement {
  return async (exchange, active) => {
    for (const requirement of requirements) {
      const failure = await requirement(exchange, active);
      if (failure !== undefined) return failure;
    }
    return undefined;
  };
}
