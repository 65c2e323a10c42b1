// The serving half of one ADS stream: subscription state, what to send next and in which order. Knows no transport.

import type { Message } from "@bufbuild/protobuf";
import type { Clock } from "../kernel/clock.ts";
import { type AdsRequest, type AdsResponse, isTypeUrl, isWholeSet } from "./protocol.ts";
import { type NamedResource, type Snapshot, type TypeUrl, typeUrls } from "./types.ts";

/** Where a control plane's answers come from. */
export interface SnapshotSource {
  /** What this node is to be told now; undefined while nothing is known of it (then nothing is sent). */
  get(nodeId: string): Snapshot | undefined;
  /** `onChange` is called whenever `get` would answer anew, until the returned function is called. */
  watch(nodeId: string, metadata: Readonly<Record<string, string>>, onChange: () => void): () => void;
}

/** How far one type of one stream is. */
export type PushState =
  | { kind: "waiting" }
  | { kind: "sent"; version: string; nonce: string; sentAtMs: number; accepted: string | undefined }
  | { kind: "acked"; version: string; nonce: string; ackedAtMs: number }
  | {
      kind: "nacked";
      version: string;
      nonce: string;
      accepted: string | undefined;
      reason: string;
      nackedAtMs: number;
    };

/** A subscription as `proxy-status` shows it. */
export interface TypeStatus {
  typeUrl: TypeUrl;
  state: PushState;
  /** Resources subscribed by name, or undefined for all. */
  names: number | undefined;
  resources: number;
}

export interface PushStream {
  receive(request: AdsRequest): void;
  /** Sends what changed since, as far as the client has answered. */
  update(): void;
  readonly nodeId: string | undefined;
  status(): TypeStatus[];
  close(): void;
}

interface TypeState {
  /** Undefined: all. */
  names: ReadonlySet<string> | undefined;
  /** What the client was sent, by name, as far as it still asks for it. */
  sent: Map<string, Message>;
  push: PushState;
}

/** Make before break (Envoy, xDS protocol, "Eventual consistency considerations"): what is referred to comes first. */
const pushOrder: readonly TypeUrl[] = [
  typeUrls.secret,
  typeUrls.cluster,
  typeUrls.endpoint,
  typeUrls.listener,
  typeUrls.route,
  typeUrls.workload,
];
/** A request may name at most this many resources; more end the stream. */
export const namesMax = 100_000;
/** Marks a version of the clusters that still holds those to be removed. */
const staleSuffix = "~";

/** `send` takes one response; at most one per type is on its way unanswered, so a slow client bounds itself. */
export function createPushStream(options: {
  source: SnapshotSource;
  clock: Clock;
  send: (response: AdsResponse) => void;
  /** The client broke the protocol: end the stream. */
  fail: (reason: string) => void;
  onNack?: (nodeId: string, typeUrl: TypeUrl, version: string, reason: string) => void;
}): PushStream {
  const { source, clock, send, fail } = options;
  const types = new Map<TypeUrl, TypeState>();
  let nodeId: string | undefined;
  let unwatch: (() => void) | undefined;
  let nonceCount = 0;
  let closed = false;

  function update(): void {
    if (closed || nodeId === undefined) return;
    const snapshot = source.get(nodeId);
    if (snapshot === undefined) return;
    for (const typeUrl of pushOrder) {
      const state = types.get(typeUrl);
      if (state === undefined || state.push.kind === "sent" || mustWait(typeUrl, types)) continue;
      const next = planPush(typeUrl, state, snapshot, types);
      if (next === undefined) continue;
      const nonce = String(++nonceCount);
      remember(typeUrl, state, next.resources);
      const accepted = acceptedVersion(state.push);
      state.push = { kind: "sent", version: next.version, nonce, sentAtMs: clock.now(), accepted };
      send({ typeUrl, version: next.version, nonce, resources: next.resources });
    }
  }

  return {
    get nodeId() {
      return nodeId;
    },
    receive(request) {
      if (closed) return;
      if (nodeId === undefined) {
        if (request.node === undefined) return fail("the first request of a stream must name the node");
        nodeId = request.node.id;
        unwatch = source.watch(nodeId, request.node.metadata, update);
      }
      if (!isTypeUrl(request.typeUrl)) return fail(`resources of type ${request.typeUrl} are not served here`);
      if (request.names.length > namesMax) return fail(`more than ${namesMax} resource names in one request`);
      let state = types.get(request.typeUrl);
      if (state === undefined) {
        state = { names: undefined, sent: new Map(), push: { kind: "waiting" } };
        types.set(request.typeUrl, state);
      }
      state.names = subscribedNames(request.names);
      if (state.names !== undefined)
        for (const name of state.sent.keys()) if (!state.names.has(name)) state.sent.delete(name);
      state.push = answer(state.push, request, clock.now());
      if (state.push.kind === "nacked" && request.error !== undefined && request.nonce === state.push.nonce)
        options.onNack?.(nodeId, request.typeUrl, state.push.version, request.error);
      update();
    },
    update,
    status: () =>
      [...types].map(([typeUrl, state]) => ({
        typeUrl,
        state: state.push,
        names: state.names?.size,
        resources: state.sent.size,
      })),
    close() {
      closed = true;
      unwatch?.();
      types.clear();
    },
  };
}

/** sent → acked | nacked, by the request that carries its nonce; any other request leaves the state. */
function answer(push: PushState, request: AdsRequest, nowMs: number): PushState {
  if (push.kind !== "sent" || request.nonce !== push.nonce) return push;
  const { version, nonce, accepted } = push;
  return request.error === undefined
    ? { kind: "acked", version, nonce, ackedAtMs: nowMs }
    : { kind: "nacked", version, nonce, accepted, reason: request.error, nackedAtMs: nowMs };
}

function acceptedVersion(push: PushState): string | undefined {
  if (push.kind === "waiting") return undefined;
  return push.kind === "acked" ? push.version : push.accepted;
}

const subscribedNames = (names: readonly string[]): ReadonlySet<string> | undefined =>
  names.length === 0 || names.includes("*") ? undefined : new Set(names);

/** Listeners and routes follow when the clusters they may refer to have been taken (or refused). */
function mustWait(typeUrl: TypeUrl, types: ReadonlyMap<TypeUrl, TypeState>): boolean {
  if (typeUrl !== typeUrls.listener && typeUrl !== typeUrls.route) return false;
  return (
    types.get(typeUrls.cluster)?.push.kind === "sent" ||
    (typeUrl === typeUrls.route && types.get(typeUrls.listener)?.push.kind === "sent")
  );
}

/** What to send for one type, or undefined when the client has it. */
function planPush(
  typeUrl: TypeUrl,
  state: TypeState,
  snapshot: Snapshot,
  types: ReadonlyMap<TypeUrl, TypeState>,
): { version: string; resources: readonly NamedResource[] } | undefined {
  const current = snapshot.resources[typeUrl] ?? { version: "", resources: [] };
  const first = state.push.kind === "waiting";
  if (!isWholeSet(typeUrl)) {
    if (state.names === undefined && !first) return undefined;
    const changed = current.resources.filter(
      ({ name, message }) => state.names?.has(name) && state.sent.get(name) !== message,
    );
    return changed.length > 0 || first ? { version: current.version, resources: changed } : undefined;
  }
  const wanted =
    state.names === undefined ? current.resources : current.resources.filter(({ name }) => state.names!.has(name));
  let { version } = current;
  let resources: readonly NamedResource[] = wanted;
  if (typeUrl === typeUrls.cluster && !settled(snapshot, types)) {
    const kept = removedFrom(state.sent, wanted);
    if (kept.length > 0) {
      version += staleSuffix;
      resources = [...wanted, ...kept];
    }
  }
  // Equal versions mean equal resources, so names suffice; the names differ when the client asks for others.
  if (state.push.kind !== "waiting" && state.push.version === version && sameNames(state.sent, resources))
    return undefined;
  return { version, resources };
}

/** True when the client has answered the current listeners and routes: only then may clusters go away. */
function settled(snapshot: Snapshot, types: ReadonlyMap<TypeUrl, TypeState>): boolean {
  for (const typeUrl of [typeUrls.listener, typeUrls.route]) {
    const state = types.get(typeUrl);
    if (state === undefined) continue;
    if (state.push.kind === "sent" || state.push.kind === "waiting") return false;
    for (const { name, message } of snapshot.resources[typeUrl]?.resources ?? [])
      if ((state.names === undefined || state.names.has(name)) && state.sent.get(name) !== message) return false;
  }
  return true;
}

function removedFrom(sent: ReadonlyMap<string, Message>, wanted: readonly NamedResource[]): NamedResource[] {
  const names = new Set(wanted.map(({ name }) => name));
  return [...sent].flatMap(([name, message]) => (names.has(name) ? [] : [{ name, message }]));
}

function sameNames(sent: ReadonlyMap<string, Message>, resources: readonly NamedResource[]): boolean {
  return sent.size === resources.length && resources.every(({ name }) => sent.has(name));
}

function remember(typeUrl: TypeUrl, state: TypeState, resources: readonly NamedResource[]): void {
  if (isWholeSet(typeUrl)) state.sent.clear();
  for (const { name, message } of resources) state.sent.set(name, message);
}
