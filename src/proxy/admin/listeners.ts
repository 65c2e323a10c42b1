// /listeners: what is listened on, in Envoy's text form and as admin.v3.Listeners.

import { hostPort } from "../../kernel/host_port.ts";
import type { CompiledListener } from "../compile/listener.ts";
import { type Sockets, socketKey } from "../sockets.ts";

export interface ListenerFacts {
  name: string;
  host: string;
  port: number;
}

/** With the real port of a listener that asked for any. */
export const listenerFacts = (listeners: Iterable<CompiledListener>, sockets: Sockets): ListenerFacts[] =>
  [...listeners].map((listener) => ({
    name: listener.name,
    host: listener.host,
    port: sockets.portOf(socketKey(listener)) ?? listener.port,
  }));

export const listenersText = (listeners: readonly ListenerFacts[]): string =>
  listeners.map(({ name, host, port }) => `${name}::${hostPort(host, port)}\n`).join("");

export const listenersJson = (listeners: readonly ListenerFacts[]): unknown => ({
  listener_statuses: listeners.map(({ name, host, port }) => ({
    name,
    local_address: { socket_address: { address: host, port_value: port } },
  })),
});
