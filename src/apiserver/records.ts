// Objects in the store: their keys, and their text with and without resourceVersion.

import type { KindDefinition } from "../api/kind.ts";
import type { KubeObject } from "../api/object.ts";
import type { StoreEntry, StoreEvent } from "../store/types.ts";
import type { KindTable } from "./types.ts";

/** "/core/pods/default/web", "/apps/deployments/", "/core/nodes/a". */
export function prefixOf(kind: Pick<KindDefinition, "group" | "plural">, namespace?: string): string {
  const base = `/${kind.group === "" ? "core" : kind.group}/${kind.plural}/`;
  return namespace === undefined ? base : `${base}${namespace}/`;
}

export const recordKey = (
  kind: Pick<KindDefinition, "group" | "plural" | "namespaced">,
  namespace: string | undefined,
  name: string,
): string => prefixOf(kind, kind.namespaced ? (namespace ?? "") : undefined) + name;

/** The revision is the resourceVersion; it is known only after the write, so the text goes without. */
export function encode(object: KubeObject): string {
  const { apiVersion, kind, metadata, ...rest } = object;
  const { resourceVersion: _, ...stored } = metadata;
  return JSON.stringify({ apiVersion, kind, metadata: stored, ...rest });
}

export function decode(value: string, revision: number): KubeObject {
  const object = JSON.parse(value) as KubeObject;
  object.metadata.resourceVersion = String(revision);
  return object;
}

export const decodeEntry = (entry: StoreEntry): KubeObject => decode(entry.value, entry.revision);

/** Both sides of an event as objects, decoded once however many watches see it. */
export interface DecodedEvent {
  /** As written; for a delete, the last state with the revision of the delete. */
  object: KubeObject;
  /** Absent when the object was new. */
  previous: KubeObject | undefined;
}

const decodedEvents = new WeakMap<StoreEvent, DecodedEvent>();

export function decodeEvent(event: StoreEvent): DecodedEvent {
  let decoded = decodedEvents.get(event);
  if (decoded === undefined) {
    decoded = {
      object: decode(event.value, event.revision),
      previous: event.previous && decodeEntry(event.previous),
    };
    decodedEvents.set(event, decoded);
  }
  return decoded;
}

export function createKindTable(kinds: readonly KindDefinition[]): KindTable {
  const served = new Map<string, KindDefinition>();
  const named = new Map<string, KindDefinition>();
  for (const kind of kinds) {
    for (const version of kind.servedVersions) served.set(`${kind.group}/${version}/${kind.plural}`, kind);
    named.set(`${kind.group}/${kind.kind}`, kind);
  }
  return {
    all: kinds,
    find: (group, version, plural) => served.get(`${group}/${version}/${plural}`),
    byKind: (group, kind) => named.get(`${group}/${kind}`),
  };
}

export const apiVersionFor = (kind: Pick<KindDefinition, "group">, version: string): string =>
  kind.group === "" ? version : `${kind.group}/${version}`;

/** `object` as the asked version shows it; all versions of a kind share one schema. */
export function inVersion(object: KubeObject, kind: KindDefinition, version: string): KubeObject {
  return version === kind.version ? object : { ...object, apiVersion: apiVersionFor(kind, version) };
}
