// list: objects of a kind at one revision, selected, in pages.

import type { KindDefinition } from "../api/kind.ts";
import type { KubeObject } from "../api/object.ts";
import { MeshbedError } from "../kernel/errors.ts";
import type { ListPage, Store } from "../store/types.ts";
import { badRequest, expired, revisionTooLarge } from "./failure.ts";
import { decodeEntry, prefixOf } from "./records.ts";
import { selectionOf } from "./selection.ts";

export interface Listed {
  items: KubeObject[];
  metadata: { resourceVersion: string; continue?: string; remainingItemCount?: number };
}

/** Entries read from the store at a time when a selector may drop some of them. */
const scanPageMax = 500;

type Query = Readonly<Record<string, string>>;

/** Query: labelSelector, fieldSelector, limit, continue, resourceVersion, resourceVersionMatch. */
export function listObjects(store: Store, kind: KindDefinition, namespace: string | undefined, query: Query): Listed {
  const selection = selectionOf(kind, query);
  const prefix = prefixOf(kind, namespace);
  const limit = numberOf(query, "limit") ?? 0;
  const from = startOf(store, prefix, query);
  const items: KubeObject[] = [];
  let { after } = from;
  for (;;) {
    const pageLimit = limit === 0 ? undefined : selection.everything ? limit : scanPageMax;
    const page = read(store, prefix, { after, limit: pageLimit, revision: from.revision }, query);
    const resourceVersion = String(page.revision);
    for (let i = 0; i < page.entries.length; i++) {
      const entry = page.entries[i]!;
      const object = decodeEntry(entry);
      if (!selection.matches(object)) continue;
      items.push(object);
      const remaining = page.entries.length - 1 - i + page.remaining;
      if (items.length !== limit || remaining === 0) continue;
      return {
        items,
        metadata: {
          resourceVersion,
          continue: encodeContinue({ revision: page.revision, after: entry.key.slice(prefix.length) }),
          ...(selection.everything && { remainingItemCount: remaining }),
        },
      };
    }
    if (page.remaining === 0) return { items, metadata: { resourceVersion } };
    after = page.entries[page.entries.length - 1]!.key;
    from.revision = page.revision;
  }
}

interface Start {
  after: string | undefined;
  revision: number | undefined;
}

function startOf(store: Store, prefix: string, query: Query): Start {
  const token = query["continue"];
  const resourceVersion = numberOf(query, "resourceVersion");
  const match = query["resourceVersionMatch"];
  if (token) {
    if (resourceVersion !== undefined && resourceVersion !== 0)
      throw badRequest("specifying resource version is not allowed when using continue");
    const { revision, after } = decodeContinue(token);
    return { after: prefix + after, revision };
  }
  if (match !== undefined && match !== "Exact" && match !== "NotOlderThan")
    throw badRequest(`resourceVersionMatch: Unsupported value: "${match}": supported values: "Exact", "NotOlderThan"`);
  if (match !== undefined && resourceVersion === undefined)
    throw badRequest("resourceVersionMatch is forbidden unless resourceVersion is provided");
  if (resourceVersion !== undefined && resourceVersion > store.revision)
    throw revisionTooLarge(resourceVersion, store.revision);
  return { after: undefined, revision: match === "Exact" && resourceVersion !== 0 ? resourceVersion : undefined };
}

function read(
  store: Store,
  prefix: string,
  { after, limit, revision }: Start & { limit: number | undefined },
  query: Query,
): ListPage {
  try {
    return store.list(prefix, {
      ...(after !== undefined && { after }),
      ...(limit !== undefined && { limit }),
      ...(revision !== undefined && { revision }),
    });
  } catch (error) {
    const code = error instanceof MeshbedError ? error.code : undefined;
    if (code === "COMPACTED")
      throw expired(
        query["continue"]
          ? "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter."
          : "The resourceVersion for the provided list is too old.",
      );
    if (code === "FUTURE_REVISION") throw badRequest("continue key is not valid: it is from another history");
    throw error;
  }
}

/** A whole number of the query, undefined when absent or empty. Throws 400. */
export function numberOf(query: Query, name: string): number | undefined {
  const text = query[name];
  if (text === undefined || text === "") return undefined;
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value))
    throw badRequest(`${name}: Invalid value: "${text}": must be a whole number`);
  return value;
}

interface Continue {
  revision: number;
  /** Key after the prefix, of the last item given. */
  after: string;
}

const encodeContinue = (token: Continue): string => Buffer.from(JSON.stringify(token)).toString("base64url");

function decodeContinue(text: string): Continue {
  try {
    const token = JSON.parse(Buffer.from(text, "base64url").toString()) as Continue;
    if (Number.isSafeInteger(token.revision) && token.revision > 0 && typeof token.after === "string") return token;
  } catch {
    // Falls through to the refusal below.
  }
  throw badRequest("continue key is not valid");
}
