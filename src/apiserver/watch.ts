// watch: current state where asked for, then changes, as events of one selection (Kubernetes API concepts, "efficient detection of changes").

import type { KindDefinition } from "../api/kind.ts";
import type { KubeObject, WatchEvent } from "../api/object.ts";
import { MeshbedError, messageOf } from "../kernel/errors.ts";
import type { StoreEvent } from "../store/types.ts";
import { ApiFailure, expired, invalid, unavailable } from "./failure.ts";
import { numberOf } from "./list.ts";
import { apiVersionFor, decodeEntry, decodeEvent, prefixOf } from "./records.ts";
import { type Selection, selectionOf } from "./selection.ts";
import type { CoreDeps } from "./types.ts";

const bookmarkPeriodMs = 60_000;
/** A watch without timeoutSeconds ends after this long, up to twice as long (--min-request-timeout). */
const watchDurationMinMs = 30 * 60_000;
/** timeoutSeconds above this counts as this. */
const watchDurationMaxMs = 24 * 60 * 60_000;

const initialEventsEnd = "k8s.io/initial-events-end";

interface WatchPlan {
  kind: KindDefinition;
  /** Served version, for bookmarks. */
  version: string;
  prefix: string;
  selection: Selection;
  /** Whether the objects that exist come first, as ADDED. */
  initialState: boolean;
  /** Follow the initial state with a bookmark that marks its end. */
  markInitialEnd: boolean;
  /** Where to start when there is no initial state; undefined: now. */
  fromRevision: number | undefined;
  bookmarks: boolean;
  durationMs: number;
}

type Query = Readonly<Record<string, string>>;

/** Checks the query at once (throws ApiFailure) and answers the events. */
export function watchObjects(
  deps: CoreDeps,
  target: { kind: KindDefinition; version: string; namespace: string | undefined },
  query: Query,
  signal: AbortSignal,
): AsyncIterable<WatchEvent> {
  const plan = planWatch(deps, target, query);
  return follow(deps, plan, signal);
}

function planWatch(
  deps: CoreDeps,
  { kind, version, namespace }: { kind: KindDefinition; version: string; namespace: string | undefined },
  query: Query,
): WatchPlan {
  const resourceVersion = numberOf(query, "resourceVersion");
  const timeoutSeconds = numberOf(query, "timeoutSeconds");
  const sendInitial = query["sendInitialEvents"];
  const forbid = (field: string, message: string) =>
    invalid({ group: "meta.k8s.io", plural: "listoptions", kind: "ListOptions" }, "", [
      { field, reason: "FieldValueForbidden", message: `Forbidden: ${message}` },
    ]);
  if (sendInitial !== undefined && query["resourceVersionMatch"] !== "NotOlderThan")
    throw forbid("resourceVersionMatch", 'sendInitialEvents requires setting resourceVersionMatch to "NotOlderThan"');
  if (sendInitial === undefined && query["resourceVersionMatch"])
    throw forbid(
      "resourceVersionMatch",
      "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
    );
  const bookmarks = isTrue(query["allowWatchBookmarks"]);
  const initialState =
    sendInitial === undefined ? resourceVersion === undefined || resourceVersion === 0 : isTrue(sendInitial);
  return {
    kind,
    version,
    prefix: prefixOf(kind, namespace),
    selection: selectionOf(kind, query),
    initialState,
    markInitialEnd: initialState && sendInitial !== undefined && bookmarks,
    fromRevision: initialState || resourceVersion === 0 ? undefined : resourceVersion,
    bookmarks,
    durationMs:
      timeoutSeconds === undefined
        ? watchDurationMinMs * (1 + deps.random.next())
        : Math.min(timeoutSeconds * 1000, watchDurationMaxMs),
  };
}

/** How Kubernetes reads a boolean of the query: present and neither "false" nor "0". */
export const isTrue = (text: string | undefined): boolean => text !== undefined && text !== "false" && text !== "0";

async function* follow(deps: CoreDeps, plan: WatchPlan, signal: AbortSignal): AsyncGenerator<WatchEvent> {
  const { store, clock } = deps;
  let from = plan.fromRevision ?? store.revision;
  if (plan.initialState) {
    const page = store.list(plan.prefix);
    from = page.revision;
    for (const entry of page.entries) {
      if (signal.aborted) return;
      const object = decodeEntry(entry);
      if (plan.selection.matches(object)) yield { type: "ADDED", object };
    }
    if (plan.markInitialEnd) yield bookmark(plan, from, { [initialEventsEnd]: "true" });
  }
  const watch = openWatch(deps, plan, from);
  if (watch instanceof ApiFailure) {
    yield errorEvent(watch);
    return;
  }
  let timedOut = false;
  let bookmarkDue = false;
  const wake = () => watch.wake();
  signal.addEventListener("abort", wake);
  const cancelTimeout = clock.after(plan.durationMs, () => {
    timedOut = true;
    wake();
  });
  const cancelBookmarks = clock.every(bookmarkPeriodMs, () => {
    bookmarkDue = plan.bookmarks;
    wake();
  });
  try {
    while (!signal.aborted) {
      const events = watch.take();
      for (const event of events) {
        if (signal.aborted) return;
        const selected = selectEvent(plan.selection, event);
        if (selected !== undefined) yield selected;
      }
      if (events.length > 0) continue;
      // Slow or closed: an ordinary end, the client resumes from its last revision. Compacted: it has to list again.
      if (watch.end?.kind === "compacted") yield errorEvent(expired(`too old resource version: ${from}`));
      if (watch.end !== undefined) return;
      if (bookmarkDue || (timedOut && plan.bookmarks)) yield bookmark(plan, watch.revision);
      bookmarkDue = false;
      if (timedOut) return;
      await watch.ready();
    }
  } finally {
    cancelTimeout();
    cancelBookmarks();
    signal.removeEventListener("abort", wake);
    watch.close();
  }
}

function openWatch({ store }: CoreDeps, plan: WatchPlan, from: number) {
  try {
    return store.watch(plan.prefix, from);
  } catch (error) {
    const code = error instanceof MeshbedError ? error.code : undefined;
    // A revision from the future belongs to another history (the state was reset): the client must list again too.
    if (code === "COMPACTED" || code === "FUTURE_REVISION")
      return expired(`too old resource version: ${from} (${store.revision})`);
    if (code === "STORE_FULL") return unavailable(messageOf(error));
    throw error;
  }
}

/** An object that enters the selection is ADDED, one that leaves it DELETED, whatever happened to it. */
function selectEvent(selection: Selection, event: StoreEvent): WatchEvent | undefined {
  const { object, previous } = decodeEvent(event);
  const before = previous !== undefined && (selection.everything || selection.matches(previous));
  if (event.type === "delete") return before ? { type: "DELETED", object } : undefined;
  const after = selection.everything || selection.matches(object);
  if (after) return { type: before ? "MODIFIED" : "ADDED", object };
  if (!before) return undefined;
  const { resourceVersion } = object.metadata;
  return { type: "DELETED", object: { ...previous, metadata: { ...previous.metadata, resourceVersion } } };
}

function bookmark({ kind, version }: WatchPlan, revision: number, annotations?: Record<string, string>): WatchEvent {
  const metadata = { resourceVersion: String(revision), ...(annotations && { annotations }) };
  const object = { apiVersion: apiVersionFor(kind, version), kind: kind.kind, metadata };
  return { type: "BOOKMARK", object: object as unknown as KubeObject };
}

export const errorEvent = (failure: ApiFailure): WatchEvent => ({
  type: "ERROR",
  object: failure.status as unknown as KubeObject,
});
