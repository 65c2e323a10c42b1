// The subscribing half of one ADS stream: names, accepted versions, ACK and NACK. Survives its stream; knows no transport.

import type { Message } from "@bufbuild/protobuf";
import { assert } from "../kernel/assert.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import { type AdsRequest, type AdsResponse, isWholeSet } from "./protocol.ts";
import type { NamedResource, ResourceHandler, Subscription, TypeUrl, XdsSource } from "./types.ts";

export interface Subscriber extends XdsSource {
  /** A new stream is there: asks for everything again. */
  opened(send: (request: AdsRequest) => void): void;
  /** The stream is gone; the last good state stays. */
  lost(): void;
  receive(response: AdsResponse & { error?: unknown }): void;
}

interface TypeSubscription {
  names: "*" | readonly string[];
  wanted: ReadonlySet<string>;
  handler: ResourceHandler;
  /** What the handler accepted, by name. */
  accepted: Map<string, Message>;
  /** False until the handler was called once. */
  delivered: boolean;
  version: string;
  nonce: string;
}

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

  function request(typeUrl: TypeUrl, type: TypeSubscription, error?: string): void {
    if (send === undefined) return;
    const node = introduced ? undefined : { id: options.nodeId, metadata: options.metadata };
    introduced = true;
    const names = type.names === "*" ? [] : type.names;
    send({ typeUrl, node, version: type.version, nonce: type.nonce, names, error });
  }

  /** A list by name that is empty would read as "all": nothing is asked for until there is a name. */
  const isAsking = (type: TypeSubscription): boolean => type.names === "*" || type.names.length > 0;

  function receive(response: AdsResponse & { error?: unknown }): void {
    const { typeUrl, version, nonce } = response;
    const type = types.get(typeUrl);
    if (type === undefined) return;
    type.nonce = nonce;
    try {
      if (response.error !== undefined) throw response.error;
      deliver(typeUrl, type, response.resources, version);
      type.version = version;
    } catch (error) {
      log.warn("xds resources refused", { type: shortType(typeUrl), version, error: messageOf(error) });
      if (types.get(typeUrl) === type) request(typeUrl, type, messageOf(error));
      return;
    }
    if (types.get(typeUrl) === type && isAsking(type)) request(typeUrl, type);
  }

  return {
    subscribe(typeUrl, names, handler): Subscription {
      assert(!types.has(typeUrl), `${typeUrl} is subscribed to already on this source`);
      const type: TypeSubscription = {
        names,
        wanted: new Set(names === "*" ? [] : names),
        handler,
        accepted: new Map(),
        delivered: false,
        version: "",
        nonce: "",
      };
      types.set(typeUrl, type);
      if (isAsking(type)) request(typeUrl, type);
      return {
        setNames(next) {
          if (type.names === "*" || types.get(typeUrl) !== type) return;
          const wasAsking = isAsking(type);
          if (next.length === type.wanted.size && next.every((name) => type.wanted.has(name))) return;
          type.names = [...next];
          type.wanted = new Set(next);
          for (const name of type.accepted.keys()) if (!type.wanted.has(name)) type.accepted.delete(name);
          if (isAsking(type)) request(typeUrl, type);
          // The wire cannot say "nothing any more" by name; a name no resource has does.
          else if (wasAsking) request(typeUrl, { ...type, names: [noResource] });
        },
        close() {
          if (types.get(typeUrl) !== type) return;
          types.delete(typeUrl);
          if (isAsking(type)) request(typeUrl, { ...type, names: [noResource] });
        },
      };
    },
    opened(sendRequest) {
      send = sendRequest;
      introduced = false;
      for (const [typeUrl, type] of types) {
        type.nonce = "";
        if (isAsking(type)) request(typeUrl, type);
      }
    },
    lost() {
      send = undefined;
    },
    receive,
    close() {
      types.clear();
      options.onClose();
    },
  };
}

/** A resource name that is never given out. */
const noResource = "-";

/** Hands the whole current set to the handler, unless it has exactly that already. Throws what the handler throws. */
function deliver(typeUrl: TypeUrl, type: TypeSubscription, resources: readonly NamedResource[], version: string): void {
  const next = new Map(isWholeSet(typeUrl) ? undefined : type.accepted);
  for (const { name, message } of resources) if (type.names === "*" || type.wanted.has(name)) next.set(name, message);
  const same = next.size === type.accepted.size && [...next].every(([name, m]) => type.accepted.get(name) === m);
  if (same && type.delivered) return;
  type.handler(
    [...next].map(([name, message]) => ({ name, message })),
    version,
  );
  type.delivered = true;
  // The handler may have changed the names it wants.
  if (type.names !== "*") for (const name of next.keys()) if (!type.wanted.has(name)) next.delete(name);
  type.accepted = next;
}

const shortType = (typeUrl: TypeUrl): string => typeUrl.slice(typeUrl.lastIndexOf(".") + 1);
