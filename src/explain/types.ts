// Contracts of the explain room: a question about one request, and the answer, hop by hop.

import type { KubeObject } from "../api/object.ts";
import type { MeshObjects } from "../mesh/types.ts";

/** What an explanation is made from: objects as the API server would hold them, and where each is written. */
export interface World {
  objects: MeshObjects;
  places: Places;
  /** Files, not a running cluster: pods, addresses and nodes may be made up. */
  offline: boolean;
  /** What was made up or left out, for people to know. */
  notes: readonly string[];
  /** Ports of this machine that lead to ports of the gateway ("http://localhost:8080"). */
  relayedPorts: ReadonlyMap<number, number>;
  nowMs: number;
  /** Of the cluster it is taken from; `namespaces` where there is none. */
  mode: "namespaces" | "ports";
}

export type ObjectRef = Pick<KubeObject, "apiVersion" | "kind" | "metadata">;

/** Where an object, or a field of it, is written. */
export interface Places {
  /** "file:line", or "VirtualService video/web spec.http[2]" where no file is known. `field` is a JSON path. */
  of(object: ObjectRef, field?: string): string;
}

/** The question. */
export interface Ask {
  method: string;
  /** Absolute. */
  url: string;
  headers: readonly (readonly [string, string])[];
  /** "pod", "namespace/pod", "deployment", a gateway's name, "outside" or an IP address; undefined: outside, through a gateway. */
  from?: string;
}

/** One line of reasoning with what belongs under it. */
export interface Step {
  /** The thing's kind, in a word or two: "virtual host", "route", "mTLS". */
  label: string;
  text: string;
  /** Where it is written. */
  at?: string;
  mark?: "yes" | "no" | "warning";
  steps?: readonly Step[];
}

/** How a request ends at a hop, or altogether. */
export interface Outcome {
  /** From 0 to 100; those of one explanation add up to 100. */
  percent: number;
  /** What the caller gets; undefined: whatever the application answers. 0: the connection is closed without an answer. */
  status: number | undefined;
  /** Envoy's response flags, or "-". */
  flag: string;
  /** Who answers, or why nobody does: one line. */
  reason: string;
  /** Where the rule that decided is written. */
  at?: string;
  /** Of an answer made by a proxy. */
  location?: string;
  body?: string;
  /** Where it goes, unless a proxy answers. */
  destination?: Destination;
}

export interface Destination {
  /** Service, as the mesh names it; "" for an address outside. */
  host: string;
  subset: string;
  port: number;
  cluster: string;
  /** "namespace/pod" of those that may get it. */
  pods: readonly string[];
  /** The request as the application gets it. */
  method: string;
  authority: string;
  path: string;
  headers: readonly (readonly [string, string])[];
}

/** What a route does, for tests and for machines. */
export interface RouteFacts {
  /** As configured. */
  name: string;
  /** Of the object: "VirtualService video/web". */
  object: string;
  /** JSON path: "spec.http[2].match[0]". */
  field: string;
  /** Of a delegate's rule: the rule that leads to it, by reference and JSON path. */
  root?: string;
  at: string;
  timeoutMs: number;
  retries: { attempts: number; on: string; perTryTimeoutMs: number; isDefault: boolean } | undefined;
  delayMs: number;
  delayPercent: number;
  abortPercent: number;
  mirrors: readonly { host: string; percent: number }[];
}

export interface Explanation {
  request: { method: string; url: string; headers: readonly (readonly [string, string])[]; from: string };
  steps: readonly Step[];
  route: RouteFacts | undefined;
  /** Policy rule that refused the request in some outcome: "DENY video/no-admin rule[0]". */
  deniedBy: string | undefined;
  outcomes: readonly Outcome[];
  notes: readonly string[];
}
