// Contracts of the client room: typed client, informer cache, reconciler.

import type { Draft, WatchEvent } from "../api/object.ts";
import type { Resource } from "../api/resources.ts";

export interface ListOptions {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  limit?: number;
  continue?: string;
}

export interface ListResult<T> {
  items: T[];
  resourceVersion: string;
  continue?: string;
}

export type PatchType = "merge" | "json" | "strategic" | "apply";

/** Every method throws ApiError (status, reason) when the server refuses. Returned objects are immutable. */
export interface Client {
  get<T>(resource: Resource<T>, namespace: string | undefined, name: string): Promise<T>;
  list<T>(resource: Resource<T>, options?: ListOptions): Promise<ListResult<T>>;
  watch<T>(
    resource: Resource<T>,
    options: ListOptions & { resourceVersion: string; signal: AbortSignal },
  ): AsyncIterable<WatchEvent<T>>;
  /** Namespace and name come from the metadata. */
  create<T extends { metadata: object }>(resource: Resource<T>, object: Draft<T>): Promise<T>;
  update<T>(resource: Resource<T>, object: T, subresource?: string): Promise<T>;
  patch<T>(
    resource: Resource<T>,
    namespace: string | undefined,
    name: string,
    patch: unknown,
    options?: { type?: PatchType; subresource?: string },
  ): Promise<T>;
  delete<T>(
    resource: Resource<T>,
    namespace: string | undefined,
    name: string,
    options?: {
      uid?: string;
      resourceVersion?: string;
      gracePeriodSeconds?: number;
      propagationPolicy?: "Orphan" | "Background" | "Foreground";
    },
  ): Promise<void>;
}

export interface InformerOptions {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
}

/** A cache of one resource kept current by list and watch (re-listing after 410 or a broken connection, with back-off). */
export interface Informer<T> {
  /** By keyOf: "namespace/name" or "name". */
  get(key: string): T | undefined;
  list(): T[];
  /** Resolves when the first list is in the cache. */
  readonly synced: Promise<void>;
  /** Called after the cache changed; `old` absent on add, `current` absent on delete. Returns an unsubscribe. */
  onChange(handler: (current: T | undefined, old: T | undefined) => void): () => void;
  stop(): void;
}

/** What a reconciler answers: done until something changes, or again after a while. */
export type ReconcileResult = { kind: "done" } | { kind: "again"; afterMs: number };

/** Reconciles one key from current state, never from the event. A throw means back-off; TerminalError means stop trying. */
export interface Reconciler {
  readonly name: string;
  reconcile(key: string): Promise<ReconcileResult>;
}
