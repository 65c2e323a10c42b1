// Contracts of the API server: who asks, what the request core takes and answers, what its parts share.

import type { KindDefinition } from "../api/kind.ts";
import type { KubeObject, WatchEvent } from "../api/object.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Log } from "../kernel/log.ts";
import type { Random } from "../kernel/random.ts";
import type { Store } from "../store/types.ts";
import type { KeyLocks } from "./key-locks.ts";
import type { ServiceAddresses } from "./service-addresses.ts";

/** From a client certificate: CN and O. */
export interface User {
  name: string;
  groups: readonly string[];
}

export type Verb =
  | "get"
  | "list"
  | "watch"
  | "create"
  | "update"
  | "patch"
  | "delete"
  | "deletecollection"
  | "post"
  | "put"
  | "head";

/** What is asked, as authorization sees it (authorization.k8s.io SubjectAccessReviewSpec). */
export type Attributes =
  | { kind: "path"; verb: Verb; path: string }
  | {
      kind: "resource";
      verb: Verb;
      group: string;
      version: string;
      resource: string;
      subresource: string | undefined;
      namespace: string | undefined;
      name: string | undefined;
    };

export type Decision = { allowed: true } | { allowed: false; reason: string };
export type Authorize = (user: User, attributes: Attributes) => Decision;

/** One request, independent of how it came. */
export interface CoreRequest {
  method: string;
  /** Without the query. */
  path: string;
  query: Readonly<Record<string, string>>;
  /** Of the Accept header; "" means anything. */
  accept: string;
  contentType: string;
  /** Decoded; the core's own copy. */
  body: unknown;
  /** The text `body` came from, to find duplicate fields. Absent for callers inside the process, whose fields are not checked. */
  bodyText: string | undefined;
  user: User;
  /** Aborts when the caller is gone. */
  signal: AbortSignal;
}

export type Answer =
  | {
      kind: "json";
      status: number;
      body: unknown;
      warnings: readonly string[];
      /** Instead of application/json; then never YAML. */
      contentType?: string;
    }
  | { kind: "watch"; events: AsyncIterable<WatchEvent> }
  | { kind: "text"; status: number; contentType: string; text: string; headers?: Record<string, string> }
  | { kind: "stream"; contentType: string; chunks: AsyncIterable<Uint8Array> };

/** What an installation decides; Kubernetes' flags of kube-apiserver. */
export interface ApiSettings {
  /** How long pods stay bound to a node that is not ready or unreachable (--default-not-ready-toleration-seconds). */
  defaultTolerationSeconds: number;
}

/** What the parts of the request core share. */
export interface CoreDeps {
  store: Store;
  kinds: KindTable;
  clock: Clock;
  random: Random;
  log: Log;
  settings: ApiSettings;
  addresses: ServiceAddresses;
  locks: KeyLocks;
}

export interface KindTable {
  readonly all: readonly KindDefinition[];
  /** The kind served under this group, version and plural. */
  find(group: string, version: string, plural: string): KindDefinition | undefined;
  /** By group and kind, whatever the version. */
  byKind(group: string, kind: string): KindDefinition | undefined;
}

/** One object on its way into the store. */
export interface AdmissionRequest {
  kind: KindDefinition;
  /** The caller's own copy; steps change it. */
  object: KubeObject;
  /** The stored object on update; absent on create. */
  old: KubeObject | undefined;
  /** Called, last first, when the object was not stored after all. */
  undo: (() => void)[];
  /** Called once the object is stored. */
  done: (() => void)[];
}

/** A request for a resource that is served, read from path, method and query. */
export interface ResourceRequest {
  request: CoreRequest;
  verb: Verb;
  kind: KindDefinition;
  version: string;
  namespace: string | undefined;
  name: string | undefined;
  subresource: string | undefined;
  dryRun: boolean;
}

/** How the API server reaches kubelets, for logs. */
export interface KubeletAccess {
  /** Answers what the kubelet of this address says to `GET path`. Throws ApiFailure when it cannot be reached. */
  get(address: string, port: number, path: string, signal: AbortSignal): Promise<Response>;
}
