// What has changed between two states of a resource set; worked out once, however many streams ask.

import type { NamedResource, ResourceSet } from "./types.ts";

export interface Difference {
  changed: readonly NamedResource[];
  /** Names. */
  removed: readonly string[];
}

const differences = new WeakMap<ResourceSet, WeakMap<ResourceSet, Difference>>();
const indices = new WeakMap<ResourceSet, ReadonlyMap<string, NamedResource>>();

const indexOf = (set: ResourceSet): ReadonlyMap<string, NamedResource> => {
  let index = indices.get(set);
  if (index === undefined) {
    index = new Map(set.resources.map((resource) => [resource.name, resource]));
    indices.set(set, index);
  }
  return index;
};

/** A set of more parts than that is looked up as a whole. */
const partsWalkedMax = 8;

export function resourceByName(set: ResourceSet, name: string): NamedResource | undefined {
  if (set.parts === undefined || set.parts.length > partsWalkedMax) return indexOf(set).get(name);
  for (const part of set.parts) {
    const found = resourceByName(part, name);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Sets of equally many parts are compared part by part. Resources differ when their messages are other objects. */
export function difference(before: ResourceSet, after: ResourceSet): Difference {
  if (before === after || before.version === after.version) return { changed: [], removed: [] };
  let known = differences.get(after);
  if (known === undefined) {
    known = new WeakMap();
    differences.set(after, known);
  }
  let result = known.get(before);
  if (result === undefined) {
    result = before.parts?.length === after.parts?.length ? byParts(before, after) : undefined;
    result ??= byNames(before, after);
    known.set(before, result);
  }
  return result;
}

function byParts(before: ResourceSet, after: ResourceSet): Difference | undefined {
  if (before.parts === undefined || after.parts === undefined) return undefined;
  const changed: NamedResource[] = [];
  const removed: string[] = [];
  for (const [index, part] of after.parts.entries()) {
    const found = difference(before.parts[index]!, part);
    changed.push(...found.changed);
    removed.push(...found.removed);
  }
  // What went from one part to another is not gone.
  return { changed, removed: removed.filter((name) => resourceByName(after, name) === undefined) };
}

function byNames(before: ResourceSet, after: ResourceSet): Difference {
  const known = indexOf(before);
  const now = indexOf(after);
  return {
    changed: after.resources.filter(({ name, message }) => known.get(name)?.message !== message),
    removed: before.resources.filter(({ name }) => !now.has(name)).map(({ name }) => name),
  };
}
