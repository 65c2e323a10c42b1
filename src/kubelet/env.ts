// The environment of a container: service variables, envFrom, env in order, $(VAR) expansion (kubelet makeEnvironmentVariables). Pure.

import type { ConfigMap, Pod, Secret } from "../api/types.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { expand } from "./expand.ts";
import { fieldValue, type PodFacts, resourceValue } from "./pod-fields.ts";

type Container = NonNullable<Pod["spec"]>["containers"][number];

/** The objects a pod refers to, as currently cached; undefined: they do not exist. */
export interface ConfigSource {
  configMap(name: string): ConfigMap | undefined;
  secret(name: string): Secret | undefined;
}

const invalidConfig = (message: string) => new MeshbedError("CONTAINER_CONFIG", message);

export const decodeSecret = (value: string): string => Buffer.from(value, "base64").toString("utf8");

/** Throws MeshbedError CONTAINER_CONFIG when something required is missing. `base` (image and mode variables) comes lowest. */
export function containerEnv(
  container: Container,
  facts: PodFacts,
  source: ConfigSource,
  services: Readonly<Record<string, string>>,
  base: Readonly<Record<string, string>>,
): Record<string, string> {
  const result: Record<string, string> = { ...base };
  for (const from of container.envFrom ?? [])
    for (const [key, value] of Object.entries(envFromValues(from, source)))
      result[`${from.prefix ?? ""}${key}`] = value;
  const lookup = (name: string) => result[name] ?? services[name];
  for (const variable of container.env ?? []) {
    const value =
      variable.valueFrom === undefined
        ? expand(variable.value ?? "", lookup)
        : valueFrom(variable.valueFrom, container, facts, source);
    if (value !== undefined) result[variable.name] = value;
  }
  for (const [name, value] of Object.entries(services)) result[name] ??= value;
  return result;
}

function envFromValues(from: NonNullable<Container["envFrom"]>[number], source: ConfigSource): Record<string, string> {
  if (from.configMapRef !== undefined) {
    const { name = "", optional } = from.configMapRef;
    const found = source.configMap(name);
    if (found === undefined && !optional) throw invalidConfig(`configmap "${name}" not found`);
    return (found?.data as Record<string, string> | undefined) ?? {};
  }
  if (from.secretRef !== undefined) {
    const { name = "", optional } = from.secretRef;
    const found = source.secret(name);
    if (found === undefined && !optional) throw invalidConfig(`secret "${name}" not found`);
    const values: Record<string, string> = {};
    for (const [key, value] of Object.entries(found?.data ?? {})) values[key] = decodeSecret(String(value));
    return values;
  }
  return {};
}

function valueFrom(
  from: NonNullable<NonNullable<Container["env"]>[number]["valueFrom"]>,
  container: Container,
  facts: PodFacts,
  source: ConfigSource,
): string | undefined {
  if (from.fieldRef !== undefined) return fieldValue(facts, from.fieldRef.fieldPath);
  if (from.resourceFieldRef !== undefined) return resourceValue(facts, from.resourceFieldRef, container.name);
  if (from.configMapKeyRef !== undefined) {
    const { name = "", key, optional } = from.configMapKeyRef;
    return keyValue("configmap", name, key, optional, source.configMap(name));
  }
  if (from.secretKeyRef !== undefined) {
    const { name = "", key, optional } = from.secretKeyRef;
    const value = keyValue("secret", name, key, optional, source.secret(name));
    return value === undefined ? undefined : decodeSecret(value);
  }
  throw invalidConfig(`container ${container.name}: unsupported valueFrom source ${Object.keys(from).join(", ")}`);
}

function keyValue(
  kind: "configmap" | "secret",
  name: string,
  key: string,
  optional: boolean | undefined,
  object: ConfigMap | Secret | undefined,
): string | undefined {
  const value = (object?.data as Record<string, string> | undefined)?.[key];
  if (value !== undefined || optional) return value;
  if (object === undefined) throw invalidConfig(`${kind} "${name}" not found`);
  throw invalidConfig(`couldn't find key ${key} in ${kind === "secret" ? "Secret" : "ConfigMap"} ${name}`);
}
