// The subscribing half of one delta ADS stream: names, accepted versions, ACK and NACK. Survives its stream; knows no transport.

import type { Message } from "@bufbuild/protobuf";
import { assert } from "../kernel/assert.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import type { DeltaResponse, VersionedResource } from "./codec.ts";
import { type AdsRequest, shortType } from "./protocol.ts";
import type { Held } from "./shared_decoder.ts";
import {
  type Refusals,
  type ResourceHandler,
  type Subscription,
  type TypeUrl,
  typeUrls,
  type XdsSource,
} from "./types.ts";

export interface Subscriber extends XdsSource {
  /** A new stream is there: asks for everything again, naming what is held. */
  opened(send: (request: AdsRequest) => void): void;
  /** The stream is gone; the last good state stays. */
  lost(): void;
  receive(response: DeltaResponse): void;
  /** What was accepted of a resource; only route configurations are kept. */
  held(typeUrl: TypeUrl, name: string): Held | undefined;
}

interface TypeSubscription {
  /** Undefined: all. */
  wanted: Set<string> | undefined;
  handler: ResourceHandler;
  /** Versions of what the handler accepted, by name. */
  held: Map<string, string>;
  /** The route configurations among them. */
  messages: Map<string, Message>;
  /** False until the handler was called once. */
  delivered: boolean;
}

/** A NACK says so many refused resources; the log has all. */
const reasonsMax = 20;
const nothing: ReadonlyMap<string, string> = new Map();

/** `onClose` is called when the source is closed by its user. */
export function createSubscriber(options: {
  nodeId: string;
  metadata: Readonly<Record<string, string>>;
  log: Log;
  onClose: () => void;
}): Subscriber {
  const { log } = options;
  const types = new Map<TypeUrl, TypeSubscription>();
  let send: ((request: AdsRequest) => void) | undefined;
  let introduced = false;

  function request(typeUrl: TypeUrl, parts: Partial<AdsRequest>): void {
    if (send === undefined) return;
    const node = introduced ? undefined : { id: options.nodeId, metadata: options.metadata, takesPatches: true };
    introduced = true;
    send({ typeUrl, node, nonce: "", names: [], unsubscribed: [], held: nothing, error: undefined, ...parts });
  }

  /** The first request of a stream for a type. One that names nothing would ask for all. */
  function ask(typeUrl: TypeUrl, { wanted, held }: TypeSubscription): void {
    if (wanted === undefined || wanted.size > 0) request(typeUrl, { names: [...(wanted ?? [])], held });
  }

  function receive(response: DeltaResponse): void {
    const { typeUrl, version, nonce } = response;
    const type = types.get(typeUrl);
    // Whoever stopped asking still answers: the server waits for it.
    if (type === undefined) return request(typeUrl, { nonce });
    let error: string | undefined;
    try {
      const refused = deliver(type, response);
      if (refused.size > 0) error = reasonsOf(refused);
    } catch (thrown) {
      error = messageOf(thrown);
    }
    if (error !== undefined) log.warn("xds resources refused", { type: shortType(typeUrl), version, error });
    request(typeUrl, { nonce, error });
  }

  return {
    subscribe(typeUrl, names, handler): Subscription {
      assert(!types.has(typeUrl), `${typeUrl} is subscribed to already on this source`);
      const wanted = names === "*" ? undefined : new Set(names);
      const type: TypeSubscription = { wanted, handler, held: new Map(), messages: new Map(), delivered: false };
      types.set(typeUrl, type);
      ask(typeUrl, type);
      return {
        setNames(next) {
          const before = type.wanted;
          if (before === undefined || types.get(typeUrl) !== type) return;
          const added = next.filter((name) => !before.has(name));
          if (added.length === 0 && next.length === before.size) return;
          type.wanted = new Set(next);
          const unsubscribed = [...before].filter((name) => !type.wanted?.has(name));
          for (const name of unsubscribed) forget(type, name);
          request(typeUrl, { names: added, unsubscribed });
        },
        close() {
          if (types.get(typeUrl) !== type) return;
          types.delete(typeUrl);
          request(typeUrl, { unsubscribed: [...(type.wanted ?? ["*"])] });
        },
      };
    },
    opened(sendRequest) {
      send = sendRequest;
      introduced = false;
      for (const [typeUrl, type] of types) ask(typeUrl, type);
    },
    lost() {
      send = undefined;
    },
    receive,
    held(typeUrl, name) {
      const type = types.get(typeUrl);
      const version = type?.held.get(name);
      const message = type?.messages.get(name);
      return version === undefined || message === undefined ? undefined : { version, message };
    },
    close() {
      types.clear();
      options.onClose();
    },
  };
}

/** Hands what is new to the handler and answers what was refused of the response. Throws what the handler throws. */
function deliver(type: TypeSubscription, response: DeltaResponse): Refusals {
  const isWanted = (name: string): boolean => type.wanted === undefined || type.wanted.has(name);
  const isNew = ({ name, version }: VersionedResource): boolean => isWanted(name) && type.held.get(name) !== version;
  const changed = response.resources.filter(isNew);
  const removed = response.removed.filter(isWanted);
  if (changed.length === 0 && removed.length === 0 && type.delivered) return response.broken;
  const refused = type.handler({ changed, removed, version: response.version }) ?? nothing;
  type.delivered = true;
  // The handler may have changed the names it wants.
  for (const { name, version, message } of changed) {
    if (refused.has(name) || !isWanted(name)) continue;
    type.held.set(name, version);
    if (response.typeUrl === typeUrls.route) type.messages.set(name, message);
  }
  for (const name of removed) forget(type, name);
  return response.broken.size === 0 ? refused : new Map([...response.broken, ...refused]);
}

function forget(type: TypeSubscription, name: string): void {
  type.held.delete(name);
  type.messages.delete(name);
}

function reasonsOf(refused: Refusals): string {
  const reasons = [...refused].slice(0, reasonsMax).map(([name, reason]) => `${name}: ${reason}`);
  if (refused.size > reasonsMax) reasons.push(`and ${refused.size - reasonsMax} more`);
  return reasons.join("; ");
}
