// The serving half of one ADS stream: what to send next and in which order, and how far the client is. Knows no transport.

import type { Message } from "@bufbuild/protobuf";
import type { Clock } from "../kernel/clock.ts";
import {
  type AdsNode,
  type AdsRequest,
  type AdsResponse,
  contentVersion,
  isTypeUrl,
  isWholeSet,
  type SentResource,
} from "./protocol.ts";
import { type Told, toldByChanges, toldBySets } from "./told.ts";
import { type ResourceSet, type Snapshot, type TypeUrl, typeUrls } from "./types.ts";

export type NodeMetadata = Readonly<Record<string, string>>;

/** Where a control plane's answers come from. */
export interface SnapshotSource {
  /** What this node is to be told now; undefined while nothing is known of it (then nothing is sent). */
  get(nodeId: string, metadata: NodeMetadata): Snapshot | undefined;
  /** `onChange` is called whenever `get` would answer anew, until the returned function is called. */
  watch(nodeId: string, metadata: NodeMetadata, onChange: () => void): () => void;
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
  /** The client has been told of all there is. */
  current: boolean;
  /** Names sent and not answered yet. */
  unanswered: readonly string[];
  /** Names of what changed since and was not sent yet. */
  unsent: readonly string[];
  /** What the client has not taken, by name, with its reason. */
  refused: Readonly<Record<string, string>>;
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
  told: Told;
  push: PushState;
  /** Names of the last response. */
  sent: readonly string[];
  refused: Map<string, string>;
}

/** Make before break (Envoy, xDS protocol, "Eventual consistency considerations"): what is referred to comes first. */
const pushOrder: readonly TypeUrl[] = [
  typeUrls.secret,
  typeUrls.cluster,
  typeUrls.endpoint,
  typeUrls.listener,
  typeUrls.route,
  typeUrls.nameTable,
  typeUrls.workload,
];
/** A request may name at most this many resources; more end the stream. */
export const namesMax = 100_000;
const nothing: ResourceSet = { version: "", resources: [] };

export interface PushOptions {
  source: SnapshotSource;
  clock: Clock;
  variant: "sotw" | "delta";
  /** Of resources sent by delta; by content unless said. */
  versionOf?: (typeUrl: TypeUrl, message: Message) => string;
  send: (response: AdsResponse) => void;
  /** The client broke the protocol: end the stream. */
  fail: (reason: string) => void;
  onNack?: (nodeId: string, typeUrl: TypeUrl, version: string, reason: string) => void;
}

/** At most one response per type is on its way unanswered, so a slow client bounds itself: it gets the newest state when it answers. */
export function createPushStream(options: PushOptions): PushStream {
  const { source, clock, send, fail, versionOf = contentVersion } = options;
  const types = new Map<TypeUrl, TypeState>();
  let node: AdsNode | undefined;
  let unwatch: (() => void) | undefined;
  let nonceCount = 0;
  let closed = false;

  const newType = (typeUrl: TypeUrl): TypeState => {
    const whole = isWholeSet(typeUrl);
    const told = options.variant === "sotw" ? toldBySets(whole) : toldByChanges(whole, typeUrl, versionOf);
    return { told, push: { kind: "waiting" }, sent: [], refused: new Map() };
  };

  function update(): void {
    if (closed || node === undefined) return;
    const snapshot = source.get(node.id, node.metadata);
    if (snapshot === undefined) return;
    for (const typeUrl of pushOrder) {
      const state = types.get(typeUrl);
      if (state === undefined || state.push.kind === "sent" || mustWait(typeUrl, types)) continue;
      const keep = isReferredTo(typeUrl) && !isSettled(snapshot, types);
      const telling = state.told.next(snapshot.resources[typeUrl] ?? nothing, keep);
      if (telling === undefined) continue;
      const nonce = String(++nonceCount);
      const { version, resources, removed } = telling;
      for (const name of removed) state.refused.delete(name);
      state.sent = [...resources.map(({ name }) => name), ...removed];
      const accepted = acceptedVersion(state.push);
      state.push = { kind: "sent", version, nonce, sentAtMs: clock.now(), accepted };
      // What the client has is known only where it has refused nothing.
      const { takesPatches } = node;
      const isKnown = ({ name, base }: SentResource) => base !== undefined && takesPatches && !state.refused.has(name);
      const sent = resources.map((resource) => (isKnown(resource) ? resource : { ...resource, base: undefined }));
      send({ typeUrl, version, nonce, resources: sent, removed });
    }
  }

  function receive(request: AdsRequest): void {
    if (closed) return;
    if (node === undefined) {
      if (request.node === undefined) return fail("the first request of a stream must name the node");
      node = request.node;
      unwatch = source.watch(node.id, node.metadata, update);
    }
    const { typeUrl } = request;
    if (!isTypeUrl(typeUrl)) return fail(`resources of type ${typeUrl} are not served here`);
    if (request.names.length > namesMax) return fail(`more than ${namesMax} resource names in one request`);
    let state = types.get(typeUrl);
    if (state === undefined) {
      state = newType(typeUrl);
      types.set(typeUrl, state);
    }
    state.told.ask(request);
    if (answer(state, request, clock.now()) && request.error !== undefined)
      options.onNack?.(node.id, typeUrl, acceptedOrRefused(state.push), request.error);
    update();
  }

  function statusOf(typeUrl: TypeUrl, { told, push, sent, refused }: TypeState): TypeStatus {
    const set = (node && source.get(node.id, node.metadata))?.resources[typeUrl] ?? nothing;
    const current = told.isCurrent(set);
    return {
      typeUrl,
      state: push,
      names: told.names,
      resources: told.resources,
      current,
      unanswered: push.kind === "sent" ? sent : [],
      unsent: current ? [] : told.missing(set),
      refused: Object.fromEntries(refused),
    };
  }

  return {
    get nodeId() {
      return node?.id;
    },
    receive,
    update,
    status: () => [...types].map(([typeUrl, state]) => statusOf(typeUrl, state)),
    close() {
      closed = true;
      unwatch?.();
      types.clear();
    },
  };
}

/** sent → acked | nacked, by the request that carries its nonce; any other request leaves the state and answers false. */
function answer(state: TypeState, { nonce, error }: AdsRequest, nowMs: number): boolean {
  const { push, sent, refused } = state;
  if (push.kind !== "sent" || nonce !== push.nonce) return false;
  const { version, accepted } = push;
  const named = error === undefined ? [] : refusedNames(sent, error);
  for (const name of sent) refused.delete(name);
  for (const name of named) refused.set(name, error!);
  state.push =
    error === undefined
      ? { kind: "acked", version, nonce, ackedAtMs: nowMs }
      : { kind: "nacked", version, nonce, accepted, reason: error, nackedAtMs: nowMs };
  return true;
}

/** The resources a refusal speaks of (Envoy and our proxy name them); all of the response when it names none. */
function refusedNames(sent: readonly string[], reason: string): readonly string[] {
  const named = sent.filter((name) => name !== "" && reason.includes(name));
  return named.length > 0 ? named : sent;
}

function acceptedVersion(push: PushState): string | undefined {
  if (push.kind === "waiting") return undefined;
  return push.kind === "acked" ? push.version : push.accepted;
}

const acceptedOrRefused = (push: PushState): string => (push.kind === "waiting" ? "" : push.version);

/** Listeners and routes follow when the clusters they may refer to have been taken (or refused). */
function mustWait(typeUrl: TypeUrl, types: ReadonlyMap<TypeUrl, TypeState>): boolean {
  if (typeUrl !== typeUrls.listener && typeUrl !== typeUrls.route) return false;
  return (
    types.get(typeUrls.cluster)?.push.kind === "sent" ||
    (typeUrl === typeUrls.route && types.get(typeUrls.listener)?.push.kind === "sent")
  );
}

const isReferredTo = (typeUrl: TypeUrl): boolean => typeUrl === typeUrls.cluster || typeUrl === typeUrls.endpoint;

/** True when the client has answered the current listeners and routes: only then may clusters and their endpoints go away. */
function isSettled(snapshot: Snapshot, types: ReadonlyMap<TypeUrl, TypeState>): boolean {
  for (const typeUrl of [typeUrls.listener, typeUrls.route]) {
    const state = types.get(typeUrl);
    if (state === undefined) continue;
    if (state.push.kind === "sent" || state.push.kind === "waiting") return false;
    if (!state.told.isCurrent(snapshot.resources[typeUrl] ?? nothing)) return false;
  }
  return true;
}
