// Contracts of the client room: typed client, informer cache, reconciler.

import type { Draft, Status, WatchEvent } from "../api/object.ts";
import type { Resource } from "../api/resources.ts";
import { MeshbedError } from "../kernel/errors.ts";

/** The server refused a request. `status` is the HTTP status, `reason` Kubernetes' word for it (NotFound, Conflict, …). */
export class ApiError extends MeshbedError {
  readonly status: number;
  readonly reason: string;
  readonly details: Status["details"];

  /** `body` is the metav1.Status the server answered with, or whatever else came instead. */
  constructor(status: number, body: unknown) {
    const answer = (typeof body === "object" && body !== null ? body : {}) as Partial<Status>;
    const reason = answer.reason ?? (status === 404 ? "NotFound" : status === 409 ? "Conflict" : "Unknown");
    const text = typeof body === "string" && body !== "" ? body.slice(0, 500) : `the server answered ${status}`;
    super(`API_${reason.replace(/(?<=[a-z])[A-Z]/g, "_$&").toUpperCase()}`, answer.message ?? text);
    this.name = "ApiError";
    this.status = status;
    this.reason = reason;
    this.details = answer.details;
  }
}

export const isNotFound = (error: unknown): boolean => error instanceof ApiError && error.status === 404;
export const isConflict = (error: unknown): boolean => error instanceof ApiError && error.reason === "Conflict";
export const isAlreadyExists = (error: unknown): boolean =>
  error instanceof ApiError && error.reason === "AlreadyExists";
/** The requested revision is compacted (410): list again. */
export const isGone = (error: unknown): boolean => error instanceof ApiError && error.status === 410;

/** Thrown by a reconciler when trying again is of no use until the object changes. */
export class TerminalError extends MeshbedError {
  constructor(message: string, cause?: unknown) {
    super("TERMINAL", message, { cause });
    this.name = "TerminalError";
  }
}

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
  /** POST to a subresource (pods/binding, pods/eviction); answers what the server answered. */
  createSubresource(
    resource: Resource,
    namespace: string | undefined,
    name: string,
    subresource: string,
    body: unknown,
  ): Promise<unknown>;
  /** Every resource the server lists and watches, each in its preferred version. */
  discover(): Promise<Resource[]>;
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

/** Named functions from an object to the values it is found under (an object may have none or several). */
export type Indexes<T> = Readonly<Record<string, (object: T) => readonly string[]>>;

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

/** An informer with indexes, and with write-through so that a reconciler sees its own writes before the watch brings them. */
export interface IndexedInformer<T> extends Informer<T> {
  /** Objects whose index `name` gives `value`. */
  by(name: string, value: string): T[];
  /** Takes over what a create, update or patch answered; ignored when the cache is already newer. */
  observe(object: T): void;
  /** After a delete succeeded: the cached object, if it is still that `uid`, counts as terminating at once. */
  observeDeleting(key: string, uid: string): void;
}

/** What a reconciler answers: done until something changes, or again after a while. */
export type ReconcileResult = { kind: "done" } | { kind: "again"; afterMs: number };

/** Reconciles one key from current state, never from the event. A throw means back-off; TerminalError means stop trying. */
export interface Reconciler {
  readonly name: string;
  reconcile(key: string): Promise<ReconcileResult>;
}
