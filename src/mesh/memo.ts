// What makes the translation incremental: results kept while their inputs are the same objects, equal resources made one.

import type { Message } from "@bufbuild/protobuf";
import { contentVersion, resourceName } from "../xds/protocol.ts";
import type { NamedResource, ResourceSet, TypeUrl } from "../xds/types.ts";

/** Resources of one type with a version by content. */
export type Group = ResourceSet;

export interface Memo {
  /** The value of `key`; made anew when an input is another object than last time. */
  get<T>(key: string, inputs: readonly unknown[], make: () => T): T;
}

/** Past this many entries all are forgotten: the next round makes what it needs anew. */
const entriesMax = 50_000;

export function createMemo(): Memo {
  const entries = new Map<string, { inputs: readonly unknown[]; value: unknown }>();
  return {
    get<T>(key: string, inputs: readonly unknown[], make: () => T): T {
      const known = entries.get(key);
      if (known !== undefined && sameItems(known.inputs, inputs)) return known.value as T;
      const value = make();
      if (entries.size >= entriesMax) entries.clear();
      entries.set(key, { inputs, value });
      return value;
    },
  };
}

export function sameItems(a: readonly unknown[], b: readonly unknown[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** `next`, or `previous` when it holds the same objects: then an identity check tells that nothing changed. */
export const stable = <T>(previous: readonly T[] | undefined, next: readonly T[]): readonly T[] =>
  previous !== undefined && sameItems(previous, next) ? previous : next;

/** Of interned resources. */
const versions = new WeakMap<NamedResource, string>();

/** Past this many known resources, those that are gone are looked for. */
const purgeAbove = 4_096;

export interface Interner {
  /** The resource of this message, or the one given out before for an equal message: its identity tells a change. */
  named(typeUrl: TypeUrl, message: Message): NamedResource;
}

export function createInterner(): Interner {
  const known = new Map<string, WeakRef<NamedResource>>();
  let purgeAt = purgeAbove;
  return {
    named(typeUrl, message) {
      const version = contentVersion(typeUrl, message);
      const key = `${typeUrl}|${version}`;
      const present = known.get(key)?.deref();
      if (present !== undefined) return present;
      const resource = { name: resourceName(typeUrl, message), message };
      versions.set(resource, version);
      known.set(key, new WeakRef(resource));
      if (known.size > purgeAt) {
        for (const [k, ref] of known) if (ref.deref() === undefined) known.delete(k);
        purgeAt = Math.max(purgeAbove, known.size * 2);
      }
      return resource;
    },
  };
}

/** The resources with a version that says their content and order. All must come from an interner. */
export function groupOf(resources: readonly NamedResource[]): Group {
  let text = "";
  for (const resource of resources) text += `${versions.get(resource)} `;
  return { version: Bun.hash(text).toString(36), resources };
}

/** Groups one after the other; put together only for who asks. */
export const joinGroups = (...parts: readonly Group[]): Group =>
  join(parts, parts.map(({ version }) => version).join("."));

/** The same for many. */
export const joinMany = (parts: readonly Group[]): Group =>
  join(parts, Bun.hash(parts.map(({ version }) => version).join()).toString(36));

function join(parts: readonly Group[], version: string): Group {
  let resources: readonly NamedResource[] | undefined;
  return {
    version,
    parts,
    get resources() {
      resources ??= parts.flatMap((part) => part.resources);
      return resources;
    },
  };
}
