// A Sidecar's ingress listeners: which ports of a workload have a chain of their own, where they lead, and how much at once. Pure.

import type { Sidecar } from "../api/types.ts";
import { protocolNamed } from "./service-entries.ts";
import type { InboundPort } from "./translate-listeners.ts";

type Spec = NonNullable<Sidecar["spec"]>;
export type InboundPool = Spec["inboundConnectionPool"];

/** `known`: what services lead to. Named listeners take their place; without a service there is nobody to answer for (Istio). */
export function ingressPorts(known: readonly InboundPort[], sidecar: Sidecar | undefined): InboundPort[] {
  const { ingress = [], inboundConnectionPool: pool } = sidecar?.spec ?? {};
  if (ingress.length === 0) return pool === undefined ? [...known] : known.map((port) => ({ ...port, pool }));
  return ingress.flatMap(({ port, defaultEndpoint, connectionPool = pool }): InboundPort[] => {
    const number = port.number ?? 0;
    const own = known.find(({ containerPort }) => containerPort === number) ?? known[0];
    if (own === undefined || number === 0) return [];
    const protocol = port.protocol === undefined ? own.port.protocol : protocolNamed(port.protocol);
    const target = endpointPort(defaultEndpoint) ?? number;
    return [{ ...own, containerPort: number, port: { ...own.port, protocol }, target, pool: connectionPool }];
  });
}

/** "127.0.0.1:8080", "0.0.0.0:8080", ":8080": always the workload's own address, as its loopback is its own as well. */
export function endpointPort(text: string | undefined): number | undefined {
  const port = /^[^/]*:(\d+)$/.exec(text ?? "")?.[1];
  return port === undefined ? undefined : Number(port);
}
