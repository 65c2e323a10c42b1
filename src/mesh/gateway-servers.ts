// Which servers a gateway pod carries, on which port, for which hosts, and which VirtualServices are bound to them. Pure.

import { keyOf } from "../api/object.ts";
import { matchesMap } from "../api/selectors.ts";
import type { Gateway } from "../api/types.ts";
import { getOrAdd } from "../kernel/map.ts";
import { hostIntersection, isVisible } from "./hosts.ts";
import { containerPortOf, selects } from "./translate-listeners.ts";
import type { GatewayServer, Model, RuleSet, Workload } from "./types.ts";

export type ServerKind = "http" | "https" | "tls" | "passthrough" | "tcp";

export interface Server {
  gateway: Gateway;
  /** "namespace/name" of the Gateway. */
  key: string;
  server: GatewayServer;
  kind: ServerKind;
  /** What the listener is called by and routes ask for: the container port behind server.port. */
  port: number;
  /** `namespace`: whose VirtualServices may bind to the host; undefined for all. */
  hosts: readonly { namespace: string | undefined; host: string }[];
}

/** A server that cannot be carried beside an older one on the same port. */
export interface ServerConflict {
  server: Server;
  message: string;
}

/** The servers of every Gateway whose selector fits the pod, by port; oldest Gateway first. */
export function serversOf(
  model: Model,
  workload: Workload,
): { byPort: ReadonlyMap<number, readonly Server[]>; conflicts: readonly ServerConflict[] } {
  const byPort = new Map<number, Server[]>();
  const conflicts: ServerConflict[] = [];
  for (const gateway of gatewaysOf(model, workload)) {
    for (const server of gateway.spec?.servers ?? []) {
      const entry: Server = {
        gateway,
        key: keyOf(gateway),
        server,
        kind: kindOf(server),
        port: listenPort(model, workload, server.port.number),
        hosts: server.hosts.map((host) => parseHost(host, gateway.metadata.namespace ?? "default")),
      };
      const present = byPort.get(entry.port);
      const message = present && conflictOf(present, entry);
      if (message !== undefined) conflicts.push({ server: entry, message });
      else if (present) present.push(entry);
      else byPort.set(entry.port, [entry]);
    }
  }
  return { byPort, conflicts };
}

function gatewaysOf(model: Model, { namespace, labels }: Workload): Gateway[] {
  const own = model.gateways.filter(({ spec }) => matchesMap(spec?.selector, labels));
  const derived = model.derived.gateways.filter((one) => one.namespace === namespace && matchesMap(one.labels, labels));
  return [...own, ...derived.map(({ gateway }) => gateway)];
}

function kindOf(server: GatewayServer): ServerKind {
  switch (server.port.protocol.toUpperCase()) {
    case "HTTPS":
      return server.tls?.mode === "PASSTHROUGH" ? "passthrough" : "https";
    case "TLS":
      return server.tls?.mode === "PASSTHROUGH" ? "passthrough" : "tls";
    case "HTTP":
    case "HTTP2":
    case "GRPC":
    case "GRPC-WEB":
      return "http";
    default:
      return "tcp";
  }
}

/** Plain HTTP servers share one listener, TLS servers with different names another; anything else has its port alone. */
function conflictOf(present: readonly Server[], entry: Server): string | undefined {
  const [first] = present;
  const encrypted = (kind: ServerKind) => kind === "https" || kind === "tls" || kind === "passthrough";
  const fits = first!.kind === "http" ? entry.kind === "http" : encrypted(first!.kind) && encrypted(entry.kind);
  if (!fits)
    return `port ${entry.server.port.number} carries ${first!.kind} for Gateway ${first!.key}; ${entry.kind} beside it is not possible`;
  if (entry.kind === "http") return undefined;
  const taken = new Map(present.flatMap((other) => other.hosts.map(({ host }) => [host, other.key] as const)));
  const double = entry.hosts.find(({ host }) => taken.has(host));
  return (
    double && `host ${double.host} on port ${entry.server.port.number} belongs to Gateway ${taken.get(double.host)}`
  );
}

/** Gateways name the Service's port; the pod listens on the container port behind it (Istio: MergeGateways). */
function listenPort(model: Model, workload: Workload, port: number): number {
  for (const { namespace, service, ports } of model.services)
    if (namespace === workload.namespace && selects(service.spec?.selector, workload.labels)) {
      const found = ports.find((candidate) => candidate.port === port);
      const target = found && containerPortOf(workload, found.targetPort);
      if (target !== undefined) return target;
    }
  return port;
}

/** "namespace/host", "./host" (the Gateway's namespace), "*" before the slash or "host" (all). */
function parseHost(text: string, gatewayNamespace: string): { namespace: string | undefined; host: string } {
  const slash = text.indexOf("/");
  const host = text.slice(slash + 1).toLowerCase();
  const namespace = slash < 0 ? "*" : text.slice(0, slash);
  if (namespace === "*") return { namespace: undefined, host };
  return { namespace: namespace === "." ? gatewayNamespace : namespace, host };
}

/** A VirtualService bound to a server, with the hosts both know. */
export interface Binding {
  rules: RuleSet;
  hosts: readonly string[];
}

/** Oldest first. `namespace`: of the gateway pod, which must be able to see the VirtualService. */
export function bindingsOf(model: Model, server: Server, namespace: string): Binding[] {
  const bindings: Binding[] = [];
  for (const rules of [...model.ruleSets, ...model.derived.ruleSets]) {
    if (!rules.gateways.has(server.key) || !isVisible(rules.exportTo, namespace)) continue;
    const known = getOrAdd(commonHosts, server.server, () => new WeakMap<RuleSet, readonly string[]>());
    const hosts = getOrAdd(known, rules, () => hostsInCommon(server, rules));
    if (hosts.length > 0) bindings.push({ rules, hosts });
  }
  return bindings;
}

/** Both are kept while their objects do not change: a change compares only what it changes. */
const commonHosts = new WeakMap<GatewayServer, WeakMap<RuleSet, readonly string[]>>();

function hostsInCommon(server: Server, rules: RuleSet): readonly string[] {
  const hosts = new Set<string>();
  for (const { namespace: admitted, host } of server.hosts) {
    if (admitted !== undefined && admitted !== rules.namespace) continue;
    for (const ruleHost of rules.hosts) {
      const both = hostIntersection(host, ruleHost);
      if (both !== undefined) hosts.add(both);
    }
  }
  return [...hosts];
}
