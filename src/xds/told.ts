// What one client has been told of one resource type, and what it must be told next: once for each variant of ADS.

import type { Message } from "@bufbuild/protobuf";
import { difference, resourceByName } from "./difference.ts";
import type { AdsRequest, SentResource } from "./protocol.ts";
import type { NamedResource, ResourceSet, TypeUrl } from "./types.ts";

export interface Telling {
  version: string;
  resources: readonly SentResource[];
  removed: readonly string[];
}

export interface Told {
  /** Follows the names of a request. */
  ask(request: AdsRequest): void;
  /**
   * What to tell now, which counts as told from here on; undefined: the client has it all. The first telling may be empty.
   * `keep`: nothing that is in use may be taken away yet.
   */
  next(current: ResourceSet, keep: boolean): Telling | undefined;
  /** The client was told of everything in `current` that it asks for, and of nothing else that is still to be taken away. */
  isCurrent(current: ResourceSet): boolean;
  /** Names subscribed to, or undefined for all. */
  readonly names: number | undefined;
  readonly resources: number;
  /** Names of `current` that the client asks for and has not been told of as they are. */
  missing(current: ResourceSet): string[];
}

/** Marks a version of a whole set that still holds what is to be removed. */
const staleSuffix = "~";

/** State of the world: of some types every response holds all (`whole`), of others only what changed. Nothing is ever removed by name. */
export function toldBySets(whole: boolean): Told {
  let names: ReadonlySet<string> | undefined;
  let version: string | undefined;
  const sent = new Map<string, Message>();
  const isAsked = ({ name }: NamedResource): boolean => names === undefined || names.has(name);
  const isNew = (resource: NamedResource): boolean => isAsked(resource) && sent.get(resource.name) !== resource.message;

  function nextChanged(current: ResourceSet): Telling | undefined {
    // Without names such a type asks for nothing.
    const resources = names === undefined ? [] : current.resources.filter(isNew);
    if (resources.length === 0 && version !== undefined) return undefined;
    return { version: current.version, resources, removed: [] };
  }

  function nextWhole(current: ResourceSet, keep: boolean): Telling | undefined {
    let resources: readonly NamedResource[] =
      names === undefined ? current.resources : current.resources.filter(isAsked);
    let next = current.version;
    const kept = keep ? missingFrom(sent, resources) : [];
    if (kept.length > 0) {
      next += staleSuffix;
      resources = [...resources, ...kept];
    }
    // Equal versions mean equal resources, so names suffice; they differ when the client asks for others.
    const isSame = version === next && sent.size === resources.length && resources.every(({ name }) => sent.has(name));
    return isSame ? undefined : { version: next, resources, removed: [] };
  }

  return {
    ask(request) {
      names = request.names.length === 0 || request.names.includes("*") ? undefined : new Set(request.names);
      if (names !== undefined) for (const name of sent.keys()) if (!names.has(name)) sent.delete(name);
    },
    next(current, keep) {
      const telling = whole ? nextWhole(current, keep) : nextChanged(current);
      if (telling === undefined) return undefined;
      version = telling.version;
      if (whole) sent.clear();
      for (const { name, message } of telling.resources) sent.set(name, message);
      return telling;
    },
    isCurrent: (current) => version !== undefined && !current.resources.some(isNew),
    get names() {
      return names?.size;
    },
    get resources() {
      return sent.size;
    },
    missing: (current) => current.resources.filter(isNew).map(({ name }) => name),
  };
}

function missingFrom(sent: ReadonlyMap<string, Message>, resources: readonly NamedResource[]): NamedResource[] {
  const names = new Set(resources.map(({ name }) => name));
  return [...sent].flatMap(([name, message]) => (names.has(name) ? [] : [{ name, message }]));
}

/** Delta: only what changed, and by name what is gone. `wildcard`: who names nothing in the first request asks for all. */
export function toldByChanges(
  wildcard: boolean,
  typeUrl: TypeUrl,
  versionOf: (typeUrl: TypeUrl, message: Message) => string,
): Told {
  let asksAll: boolean | undefined;
  const names = new Set<string>();
  /** What the client has: as it was sent, or the version it named when it came back. */
  const held = new Map<string, Message | string>();
  /** Subscribed to by name and not answered yet. */
  const asked = new Set<string>();
  /** Gone, which the client is told when nothing refers to it any more. */
  const withheld = new Set<string>();
  /** What `held` was brought up to. */
  let base: ResourceSet | undefined;

  const isAsked = (name: string): boolean => asksAll === true || names.has(name);
  const has = ({ name, message }: NamedResource): boolean => {
    const known = held.get(name);
    return known === message || (typeof known === "string" && known === versionOf(typeUrl, message));
  };

  /** Puts what changed into `out`, what is gone into `withheld`; answers which names asked for are not there. */
  function compare(current: ResourceSet, out: Map<string, NamedResource>): string[] {
    const absent: string[] = [];
    if (base === undefined) {
      for (const resource of current.resources)
        if (isAsked(resource.name) && !has(resource)) out.set(resource.name, resource);
      for (const name of held.keys()) if (resourceByName(current, name) === undefined) withheld.add(name);
    } else if (base.version !== current.version) {
      const { changed, removed } = difference(base, current);
      for (const resource of changed) if (isAsked(resource.name)) out.set(resource.name, resource);
      for (const name of removed) if (held.has(name)) withheld.add(name);
    }
    for (const name of asked) {
      const resource = resourceByName(current, name);
      if (resource === undefined) absent.push(name);
      else if (!has(resource)) out.set(name, resource);
    }
    for (const name of out.keys()) withheld.delete(name);
    return absent;
  }

  return {
    ask(request) {
      if (asksAll === undefined) {
        asksAll = wildcard && request.names.length === 0;
        for (const [name, version] of request.held) held.set(name, version);
      }
      for (const name of request.names)
        if (name === "*") asksAll = true;
        else {
          names.add(name);
          asked.add(name);
        }
      if (request.names.includes("*")) base = undefined;
      for (const name of request.unsubscribed) {
        if (name === "*") asksAll = false;
        names.delete(name);
        asked.delete(name);
        if (isAsked(name)) continue;
        withheld.delete(name);
        held.delete(name);
      }
    },
    next(current, keep) {
      const isFirst = base === undefined;
      const changed = new Map<string, NamedResource>();
      const absent = isFirst || asked.size > 0 || base !== current ? compare(current, changed) : [];
      base = current;
      asked.clear();
      const removed = keep ? absent : [...new Set([...absent, ...withheld])];
      if (!keep) withheld.clear();
      if (changed.size === 0 && removed.length === 0 && !isFirst) return undefined;
      const resources = [...changed.values()].map(({ name, message }): SentResource => {
        const base = held.get(name);
        held.set(name, message);
        return typeof base === "object" ? { name, message, base } : { name, message };
      });
      for (const name of removed) held.delete(name);
      return { version: current.version, resources, removed };
    },
    isCurrent: (current) => base?.version === current.version && withheld.size === 0,
    get names() {
      return asksAll === true ? undefined : names.size;
    },
    get resources() {
      return held.size;
    },
    missing: (current) =>
      current.resources.filter((resource) => isAsked(resource.name) && !has(resource)).map(({ name }) => name),
  };
}
