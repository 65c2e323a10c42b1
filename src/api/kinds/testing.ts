// Shared by the tests of built-in kinds: short ways to write objects and to see what a kind makes of them.

import type { KindDefinition } from "../kind.ts";
import type { KubeObject } from "../object.ts";
import { allKinds } from "./all.ts";

/** "Service", or with the group where two have a kind of the name: "Gateway.gateway.networking.k8s.io". */
export const kindOf = (name: string): KindDefinition =>
  allKinds.find((kind) => kind.kind === name || `${kind.kind}.${kind.group}` === name)!;

export function objectOf(name: string, body: object): KubeObject {
  const kind = kindOf(name);
  const { metadata, ...rest } = body as { metadata?: object };
  return {
    apiVersion: kind.group === "" ? kind.version : `${kind.group}/${kind.version}`,
    kind: kind.kind,
    metadata: {
      name: "a",
      ...(kind.namespaced ? { namespace: "shop" } : {}),
      uid: "u",
      resourceVersion: "1",
      creationTimestamp: "2026-01-01T00:00:00Z",
      ...metadata,
    },
    ...rest,
  };
}

export function defaulted(name: string, body: object): KubeObject {
  const object = objectOf(name, structuredClone(body));
  kindOf(name).applyDefaults(object);
  return object;
}

/** Every problem as "field: reason". */
export function problems(name: string, body: object, oldBody?: object): string[] {
  const old = oldBody === undefined ? undefined : defaulted(name, oldBody);
  return kindOf(name)
    .validate(defaulted(name, body), old)
    .map((error) => `${error.field}: ${error.reason.replace("FieldValue", "")}`);
}

export const container = (more: object = {}) => ({ name: "main", image: "nginx:1.25", ...more });
export const pod = (containers: object = [container()], more: object = {}) => ({ spec: { containers, ...more } });
export const template = (more: object = {}, podMore: object = {}) => ({
  metadata: { labels: { app: "web" } },
  spec: { containers: [container(more)], ...podMore },
});
export const workload = (more: object = {}) => ({
  spec: { selector: { matchLabels: { app: "web" } }, template: template(), ...more },
});
