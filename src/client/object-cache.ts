// The cache behind an informer: objects by key, indexes, and the rules that keep it from going back in time.

import { keyOf, type ObjectMeta } from "../api/object.ts";
import type { Indexes } from "./types.ts";

type Meta = { metadata: ObjectMeta };
export type ChangeHandler<T> = (current: T | undefined, old: T | undefined) => void;

/** Revisions of one server are comparable numbers (KEP-5504); what is not a number counts as 0. */
export const revisionOf = (text: string | undefined): number => Number(text) || 0;

export class ObjectCache<T> {
  readonly #objects = new Map<string, T>();
  readonly #indexes: Indexes<T>;
  readonly #tables = new Map<string, Map<string, Map<string, T>>>();
  readonly #notify: ChangeHandler<T>;
  /** Every change up to this revision is in the cache. */
  #seenRevision = 0;

  constructor(indexes: Indexes<T>, notify: ChangeHandler<T>) {
    this.#indexes = indexes;
    this.#notify = notify;
    for (const name of Object.keys(indexes)) this.#tables.set(name, new Map());
  }

  get size(): number {
    return this.#objects.size;
  }
  get(key: string): T | undefined {
    return this.#objects.get(key);
  }
  list(): T[] {
    return [...this.#objects.values()];
  }
  by(name: string, value: string): T[] {
    const table = this.#tables.get(name);
    if (table === undefined) throw new Error(`no index named ${name}`);
    const found = table.get(value);
    return found ? [...found.values()] : [];
  }

  /** A watch event: at or before what the cache holds of the object it is old news. */
  apply(type: "ADDED" | "MODIFIED" | "DELETED", object: T): void {
    const { resourceVersion } = meta(object);
    const revision = revisionOf(resourceVersion);
    this.advance(resourceVersion);
    const key = keyOf(object as Meta);
    const old = this.#objects.get(key);
    if (old !== undefined && revisionOf(meta(old).resourceVersion) > revision) return;
    if (type === "DELETED") {
      if (old !== undefined) this.#set(key, undefined, old);
    } else if (old === undefined || isNewer(object, old)) this.#set(key, object, old);
  }

  /** What our own write answered: newer than the watch, or known already (also when known means deleted since). */
  observe(object: T): void {
    const revision = revisionOf(meta(object).resourceVersion);
    const key = keyOf(object as Meta);
    const old = this.#objects.get(key);
    if (revision <= this.#seenRevision) return;
    if (old === undefined || isNewer(object, old)) this.#set(key, object, old);
  }

  /** Our delete succeeded: the object counts as terminating until the watch says more. */
  observeDeleting(key: string, uid: string, timestamp: string): void {
    const old = this.#objects.get(key);
    if (old === undefined || meta(old).uid !== uid || meta(old).deletionTimestamp !== undefined) return;
    this.#set(key, { ...old, metadata: { ...meta(old), deletionTimestamp: timestamp } } as T, old);
  }

  /** A complete list at `resourceVersion` replaces the cache; only own writes that are newer than the list stay. */
  replace(objects: readonly T[], resourceVersion: string): void {
    const revision = revisionOf(resourceVersion);
    const serverWentBack = revision < this.#seenRevision;
    this.#seenRevision = revision;
    const listed = new Set<string>();
    for (const object of objects) {
      const key = keyOf(object as Meta);
      listed.add(key);
      const old = this.#objects.get(key);
      if (old === undefined || serverWentBack || isNewer(object, old)) this.#set(key, object, old);
    }
    for (const [key, old] of [...this.#objects])
      if (!listed.has(key) && (serverWentBack || revisionOf(meta(old).resourceVersion) <= revision))
        this.#set(key, undefined, old);
  }

  /** A bookmark or event at this revision was seen. */
  advance(resourceVersion: string): void {
    const revision = revisionOf(resourceVersion);
    if (revision > this.#seenRevision) this.#seenRevision = revision;
  }

  #set(key: string, current: T | undefined, old: T | undefined): void {
    if (current === undefined) this.#objects.delete(key);
    else this.#objects.set(key, current);
    for (const [name, values] of Object.entries(this.#indexes)) {
      const table = this.#tables.get(name)!;
      if (old !== undefined) for (const value of values(old)) removeFrom(table, value, key);
      if (current === undefined) continue;
      for (const value of values(current)) {
        const entries = table.get(value);
        if (entries) entries.set(key, current);
        else table.set(value, new Map([[key, current]]));
      }
    }
    this.#notify(current, old);
  }
}

const meta = (object: unknown): ObjectMeta => (object as Meta).metadata;

/** Another uid means it was deleted and created again between two looks: always newer, the caller compared revisions. */
function isNewer(object: unknown, old: unknown): boolean {
  const [a, b] = [meta(object), meta(old)];
  return revisionOf(a.resourceVersion) > revisionOf(b.resourceVersion) || a.uid !== b.uid;
}

function removeFrom<T>(table: Map<string, Map<string, T>>, value: string, key: string): void {
  const entries = table.get(value);
  if (entries === undefined) return;
  entries.delete(key);
  if (entries.size === 0) table.delete(value);
}
