// What is wrong with an EnvoyFilter, a ProxyConfig or a WasmPlugin (Istio pkg/config/validation).

import { child, duplicate, forbidden, invalid, notNegative, required, tooLong } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import type { PolicyTargetRef } from "../security.ts";
import type { EnvoyFilter, ProxyConfig, WasmPlugin } from "../types.ts";
import { validateRegex, validateRequired, validateSelectorLabels } from "./istio-rules.ts";
import { validateAttached, validateSelector } from "./security-rules.ts";

type Patch = NonNullable<NonNullable<EnvoyFilter["spec"]>["configPatches"]>[number];

interface PatchMatch {
  context?: string;
  proxy?: { proxyVersion?: string };
  listener?: { filterChain?: { filter?: { name?: string; subFilter?: { name?: string } } } };
  routeConfiguration?: object;
  cluster?: object;
}

const connectionManagers = ["envoy.filters.network.http_connection_manager", "envoy.http_connection_manager"];

/** What each kind of object is matched by. */
const matchFieldOf: Readonly<Record<string, "listener" | "routeConfiguration" | "cluster">> = {
  LISTENER: "listener",
  FILTER_CHAIN: "listener",
  NETWORK_FILTER: "listener",
  HTTP_FILTER: "listener",
  ROUTE_CONFIGURATION: "routeConfiguration",
  VIRTUAL_HOST: "routeConfiguration",
  HTTP_ROUTE: "routeConfiguration",
  CLUSTER: "cluster",
};

function validateMatch(match: PatchMatch, applyTo: string, path: string): FieldError[] {
  const wanted = matchFieldOf[applyTo];
  for (const field of ["listener", "routeConfiguration", "cluster"] as const)
    if (wanted !== undefined && match[field] !== undefined && field !== wanted)
      return [forbidden(child(path, field), `applyTo ${applyTo} is matched by ${wanted}`)];
  const filter = match.listener?.filterChain?.filter;
  if (filter === undefined) return [];
  const at = child(path, "listener", "filterChain", "filter");
  if (!filter.name) return [required(child(at, "name"), "filter match has no name to match on")];
  const { subFilter } = filter;
  if (subFilter === undefined) return [];
  if (applyTo !== "HTTP_FILTER")
    return [forbidden(child(at, "subFilter"), "subfilter match can be used with applyTo HTTP_FILTER only")];
  if (!connectionManagers.includes(filter.name))
    return [
      invalid(child(at, "name"), filter.name, `subfilter match requires filter match with ${connectionManagers[0]}`),
    ];
  return subFilter.name ? [] : [required(child(at, "subFilter", "name"), "subfilter match has no name to match on")];
}

function validatePatch({ applyTo, match, patch }: Patch, path: string): FieldError[] {
  if (!applyTo || applyTo === "INVALID") return [required(child(path, "applyTo"), "missing applyTo")];
  if (patch === undefined) return [required(child(path, "patch"), "missing patch")];
  const at = child(path, "patch");
  if (!patch.operation || patch.operation === "INVALID")
    return [required(child(at, "operation"), "missing patch operation")];
  if (patch.operation !== "REMOVE" && patch.value === undefined)
    return [required(child(at, "value"), "missing patch value for non-remove operation")];
  const { proxy, ...rest } = (match ?? {}) as PatchMatch;
  const errors = validateMatch(rest, applyTo, child(path, "match"));
  if (proxy?.proxyVersion)
    errors.push(...validateRegex(proxy.proxyVersion, child(path, "match", "proxy", "proxyVersion")));
  return errors;
}

export function validateEnvoyFilter(object: EnvoyFilter): FieldError[] {
  const missing = validateRequired(object, "io.istio.networking.v1alpha3.EnvoyFilter");
  if (missing.length > 0) return missing;
  const { workloadSelector, targetRefs, configPatches } = object.spec!;
  const errors = validateSelectorLabels(workloadSelector?.labels, "spec.workloadSelector.labels");
  if (workloadSelector !== undefined && targetRefs?.length)
    errors.push(forbidden("spec.targetRefs", "only one of targetRefs or workloadSelector can be set"));
  configPatches?.forEach((patch, i) => {
    errors.push(...validatePatch(patch, child("spec.configPatches", i)));
  });
  return errors;
}

export function validateProxyConfig(object: ProxyConfig): FieldError[] {
  const spec = object.spec ?? {};
  return [...validateSelector(spec.selector), ...notNegative("spec.concurrency", spec.concurrency)];
}

const schemes = ["file", "http", "https", "oci"];
const pluginNameMax = 256;
const pullSecretMax = 253;

interface PluginSpec {
  url?: string;
  sha256?: string;
  imagePullSecret?: string;
  pluginName?: string;
  vmConfig?: { env?: { name?: string; value?: string; valueFrom?: string }[] };
  match?: { ports?: { number?: number }[] }[];
}

function validateUrl(url: string | undefined): FieldError[] {
  const path = "spec.url";
  if (!url) return [required(path, "url field needs to be set")];
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(url)?.[1];
  if (scheme !== undefined && !schemes.includes(scheme.toLowerCase()))
    return [invalid(path, url, `url contains unsupported scheme: ${scheme}`)];
  return URL.canParse(scheme === undefined ? `http://${url}` : url) ? [] : [invalid(path, url, "failed to parse url")];
}

export function validateWasmPlugin(object: WasmPlugin): FieldError[] {
  const missing = validateRequired(object, "io.istio.extensions.v1alpha1.WasmPlugin");
  if (missing.length > 0) return missing;
  const spec = object.spec as PluginSpec & Parameters<typeof validateAttached>[0] & { targetRefs?: PolicyTargetRef[] };
  const errors = [...validateAttached(spec), ...validateUrl(spec.url)];
  if (spec.sha256 && !/^[a-f0-9]{64}$/.test(spec.sha256))
    errors.push(invalid("spec.sha256", spec.sha256, "sha256 field must match [a-f0-9]{64} pattern"));
  for (const [field, most] of Object.entries({ imagePullSecret: pullSecretMax, pluginName: pluginNameMax })) {
    const value = spec[field as "imagePullSecret" | "pluginName"];
    if (value === "") errors.push(required(`spec.${field}`, "must not be empty"));
    if (value !== undefined && value.length > most) errors.push(tooLong(`spec.${field}`, most));
  }
  const names = new Set<string>();
  spec.vmConfig?.env?.forEach(({ name = "", value, valueFrom }, i) => {
    const path = child("spec.vmConfig.env", i);
    if (name === "") errors.push(required(child(path, "name")));
    if (names.has(name)) errors.push(duplicate(child(path, "name"), name));
    names.add(name);
    if (valueFrom === "HOST" && value)
      errors.push(forbidden(child(path, "value"), "value may only be set when valueFrom is INLINE"));
  });
  spec.match?.forEach(({ ports }, i) => {
    ports?.forEach(({ number = 0 }, j) => {
      if (number < 1 || number > 65535)
        errors.push(invalid(child("spec.match", i, "ports", j, "number"), number, "must be between 1 and 65535"));
    });
  });
  return errors;
}
