// Sources of resources without a network: a control plane in the same process, and a fixed set.

import type { Message } from "@bufbuild/protobuf";
import type { Cancel, Clock } from "../kernel/clock.ts";
import type { Log } from "../kernel/log.ts";
import type { DeltaResponse } from "./codec.ts";
import type { AdsResponse } from "./protocol.ts";
import { createPushStream, type SnapshotSource } from "./push.ts";
import { createSubscriber } from "./subscribe.ts";
import type { Snapshot, TypeUrl, XdsConnection, XdsSource } from "./types.ts";

const identities = new WeakMap<Message, string>();
let identityCount = 0;

/** Messages are not copied on their way, so who they are tells whether they changed; nothing need be encoded. */
function identityOf(_typeUrl: TypeUrl, message: Message): string {
  let identity = identities.get(message);
  if (identity === undefined) {
    identity = String(++identityCount);
    identities.set(message, identity);
  }
  return identity;
}

const versioned = (response: AdsResponse): DeltaResponse => ({
  ...response,
  resources: response.resources.map(({ name, message }) => ({
    name,
    message,
    version: identityOf(response.typeUrl, message),
  })),
  broken: new Map(),
});

/** The exchange of connectAds and startAdsServer, in process: same order, same ACK and NACK, no bytes. */
export function connectMemory(options: { source: SnapshotSource; log: Log; clock: Clock }): XdsConnection {
  const { source, log, clock } = options;
  const open = new Set<XdsSource>();
  return {
    open(nodeId, metadata = {}) {
      let closed = false;
      const later = (work: () => void): void =>
        queueMicrotask(() => {
          if (!closed) work();
        });
      const push = createPushStream({
        source,
        clock,
        variant: "delta",
        versionOf: identityOf,
        send: (response) => later(() => subscriber.receive(versioned(response))),
        fail: (reason) => log.error("xds stream failed", { node: nodeId, reason }),
      });
      const subscriber = createSubscriber({
        nodeId,
        metadata,
        log,
        onClose: () => {
          closed = true;
          push.close();
          open.delete(subscriber);
        },
      });
      subscriber.opened((request) => later(() => push.receive(request)));
      open.add(subscriber);
      return subscriber;
    },
    close() {
      for (const source of open) source.close();
    },
  };
}

export interface MemorySnapshots extends SnapshotSource {
  get(nodeId: string): Snapshot | undefined;
  /** Replaces what a node is told; undefined: nothing is known of it any more. */
  set(nodeId: string, snapshot: Snapshot | undefined): void;
}

/** Snapshots set by hand. */
export function memorySnapshots(): MemorySnapshots {
  const snapshots = new Map<string, Snapshot>();
  const watchers = new Map<string, Set<() => void>>();
  return {
    get: (nodeId) => snapshots.get(nodeId),
    watch(nodeId, _metadata, onChange): Cancel {
      let set = watchers.get(nodeId);
      if (set === undefined) {
        set = new Set();
        watchers.set(nodeId, set);
      }
      set.add(onChange);
      return () => {
        set.delete(onChange);
        if (set.size === 0 && watchers.get(nodeId) === set) watchers.delete(nodeId);
      };
    },
    set(nodeId, snapshot) {
      if (snapshot === undefined) snapshots.delete(nodeId);
      else snapshots.set(nodeId, snapshot);
      for (const onChange of watchers.get(nodeId) ?? []) onChange();
    },
  };
}

/** A connection on which every node is told the same, for ever: a proxy with a fixed configuration. */
export function staticSource(snapshot: Snapshot, options: { log: Log; clock: Clock }): XdsConnection {
  return connectMemory({ source: { get: () => snapshot, watch: () => () => {} }, ...options });
}
