// Load balancers: loopback addresses of this machine that lead to node ports. The control plane says which, the sandbox and the
// supervisor each hold their end of the relays.

import { rmSync } from "node:fs";
import { join } from "node:path";
import { isLocalAddress } from "../api/gateway-classes.ts";
import type { Node, Service } from "../api/types.ts";
import type { Informer } from "../client/types.ts";
import type { Clock } from "../kernel/clock.ts";
import { hostPort } from "../kernel/host_port.ts";
import { type ClusterEvent, emitEvent } from "./events.ts";
import { type RelayServer, startRelay, type Target } from "./relay.ts";

/** More are not relayed. */
const balancersMax = 512;
/** Changes within this time are reported together. */
const coalesceMs = 20;

/** One port of a load balancer. */
export interface Balancer {
  /** On this machine: 127.96.3.4. */
  address: string;
  port: number;
  /** Inside, "ip:port". */
  targets: string[];
}

/** Every port of every LoadBalancer Service with a loopback address, and the nodes that are there to answer. Pure. */
export function balancersOf(services: readonly Service[], nodes: readonly Node[]): Balancer[] {
  const ips = nodes.flatMap(({ status }) => {
    const isReady = status?.conditions?.some((condition) => condition.type === "Ready" && condition.status === "True");
    return (isReady && status?.addresses?.find(({ type }) => type === "InternalIP")?.address) || [];
  });
  const balancers = services.flatMap(({ spec, status }) =>
    (status?.loadBalancer?.ingress ?? []).flatMap(({ ip = "", ipMode }) =>
      // "VIP": a node's own address, as in `ports` mode all have 127.0.0.1.
      ipMode === "Proxy" && isLocalAddress(ip)
        ? (spec?.ports ?? []).flatMap(({ port, nodePort, protocol }) =>
            nodePort && (protocol ?? "TCP") === "TCP"
              ? [{ address: ip, port, targets: [...new Set(ips)].map((node) => hostPort(node, nodePort)) }]
              : [],
          )
        : [],
    ),
  );
  return balancers.slice(0, balancersMax);
}

/** Emits an event whenever they change. Returns stop. */
export function reportBalancers(services: Informer<Service>, nodes: Informer<Node>, clock: Clock): () => void {
  let last = "[]";
  let scheduled = false;
  const report = (): void => {
    scheduled = false;
    const balancers = balancersOf(services.list(), nodes.list());
    const text = JSON.stringify(balancers);
    if (text !== last) emitEvent({ type: "balancers", balancers });
    last = text;
  };
  const changed = (): void => {
    if (scheduled) return;
    scheduled = true;
    clock.after(coalesceMs, report);
  };
  const stops = [services.onChange(changed), nodes.onChange(changed)];
  void Promise.all([services.synced, nodes.synced]).then(changed);
  return () => {
    for (const stop of stops) stop();
  };
}

/** Relative to the state folder, as the other relays' sockets. */
const socketOf = ({ address, port }: Balancer): string => join("run", `lb-${address}-${port}.sock`);

export interface BalancerRelays {
  take(event: ClusterEvent): void;
}

/** The end inside: from socket files to the nodes, in turn. */
export function insideRelays(): BalancerRelays {
  let turn = 0;
  return relaysFor((balancer, targets) => {
    const unix = socketOf(balancer);
    rmSync(unix, { force: true });
    return startRelay({ unix }, () => {
      const all = targets();
      const target = all[turn++ % Math.max(1, all.length)];
      if (target === undefined) return undefined;
      const colon = target.lastIndexOf(":");
      return { hostname: target.slice(0, colon), port: Number(target.slice(colon + 1)) };
    });
  });
}

/** A port that is not ours to take is tried this much higher: 80 → 8080, 443 → 8443. */
const portShift = 8_000;

/** The end outside: from this machine's loopback addresses to the socket files. `say` hears what cannot be as it should. */
export function outsideRelays(say: (message: string) => void): BalancerRelays {
  return relaysFor((balancer) => {
    const { address, port } = balancer;
    const to = (): Target => ({ unix: socketOf(balancer) });
    for (const tried of [port, port + portShift]) {
      try {
        const relay = startRelay({ hostname: address, port: tried }, to);
        if (tried !== port)
          say(`load balancer ${hostPort(address, port)} is reached at port ${tried}: ${port} cannot be taken`);
        return relay;
      } catch {
        // Of others, or below what this user may take: the next one.
      }
    }
    say(`load balancer ${hostPort(address, port)} cannot be reached from this machine: the address cannot be taken`);
    return undefined;
  });
}

function relaysFor(
  start: (balancer: Balancer, targets: () => readonly string[]) => RelayServer | undefined,
): BalancerRelays {
  const running = new Map<string, { relay: RelayServer | undefined; targets: readonly string[] }>();
  return {
    take(event) {
      if (event.type !== "balancers") return;
      const wanted = new Map(event.balancers.map((balancer) => [hostPort(balancer.address, balancer.port), balancer]));
      for (const [key, { relay }] of running) {
        if (wanted.has(key)) continue;
        relay?.stop();
        running.delete(key);
      }
      for (const [key, balancer] of wanted) {
        const known = running.get(key);
        if (known) known.targets = balancer.targets;
        else
          running.set(key, {
            relay: start(balancer, () => running.get(key)?.targets ?? []),
            targets: balancer.targets,
          });
      }
    },
  };
}
