// Which Sidecar counts for a workload, and what it lets the workload know and reach. Pure.

import { matchesMap } from "../api/selectors.ts";
import type { Sidecar } from "../api/types.ts";
import type { BackendTls } from "./gateway-api/backend-tls.ts";
import { hostCovers, hostIntersection } from "./hosts.ts";
import type { Model, Policy, RuleSet, ServiceModel, Workload } from "./types.ts";

type SidecarSpec = NonNullable<Sidecar["spec"]>;
type Egress = NonNullable<SidecarSpec["egress"]>[number];
export type Ingress = NonNullable<SidecarSpec["ingress"]>[number];

/** "namespace/host": "*" is any. */
interface Import {
  namespace: string;
  host: string;
}

/** What is imported on one port, or on all that have no listener of their own. */
export interface EgressListener {
  /** Where the application connects to; undefined: as everywhere. */
  bind: string | undefined;
  imports: readonly Import[];
}

export interface SidecarScope {
  object: Sidecar;
  byPort: ReadonlyMap<number, EgressListener>;
  rest: EgressListener | undefined;
}

/** Clients that are told the same of the outside: those of a namespace, or those of them that a Sidecar is about. */
export interface Audience {
  key: string;
  namespace: string;
  scope: SidecarScope | undefined;
  /** What no service is known for is refused (outboundTrafficPolicy REGISTRY_ONLY). */
  registryOnly: boolean;
  /** DestinationRules that select them by label; undefined for none. */
  selected?: readonly Policy[] | undefined;
  /** What BackendTLSPolicies say, which are for gateways alone. */
  backendTls?: BackendTls["byService"] | undefined;
}

/** Gateways have no Sidecar. */
export function sidecarFor(model: Model, workload: Workload): Sidecar | undefined {
  if (workload.gateway || model.sidecars.length === 0) return undefined;
  const own = model.sidecars.filter(({ metadata }) => metadata.namespace === workload.namespace);
  return (
    own.find(
      (sidecar) => hasSelector(sidecar) && matchesMap(sidecar.spec?.workloadSelector?.labels, workload.labels),
    ) ??
    own.find((sidecar) => !hasSelector(sidecar)) ??
    model.sidecars.find((sidecar) => sidecar.metadata.namespace === model.config.rootNamespace && !hasSelector(sidecar))
  );
}

const hasSelector = ({ spec }: Sidecar): boolean => Object.keys(spec?.workloadSelector?.labels ?? {}).length > 0;

export function audienceOf(model: Model, namespace: string, sidecar: Sidecar | undefined): Audience {
  // Of a policy that is there without a mode, the mode is the first one (proto3).
  const policy = sidecar?.spec?.outboundTrafficPolicy ?? model.settings.outboundTrafficPolicy;
  const registryOnly = policy !== undefined && policy.mode !== "ALLOW_ANY";
  if (sidecar === undefined) return { key: namespace, namespace, scope: undefined, registryOnly };
  const key = `${namespace}|${sidecar.metadata.namespace}/${sidecar.metadata.name}`;
  return { key, namespace, scope: scopeOf(sidecar, namespace), registryOnly };
}

/** `namespace`: of the workload, which "." stands for also in the root namespace's Sidecar. */
function scopeOf(sidecar: Sidecar, namespace: string): SidecarScope {
  const egress = sidecar.spec?.egress ?? [];
  const all: Egress[] = egress.length > 0 ? egress : [{ hosts: ["*/*"] }];
  const byPort = new Map<number, EgressListener>();
  let rest: EgressListener | undefined;
  for (const listener of all) {
    const made = listenerOf(listener, namespace);
    const port = listener.port?.number;
    if (!port) rest ??= made;
    else if (!byPort.has(port)) byPort.set(port, made);
  }
  return { object: sidecar, byPort, rest };
}

function listenerOf({ bind, hosts }: Egress, namespace: string): EgressListener {
  return {
    bind: bind === "" || isUnreachable(bind) ? undefined : bind,
    imports: hosts.flatMap((text) => {
      const slash = text.indexOf("/");
      const of = slash < 0 ? "*" : text.slice(0, slash);
      if (of === "~") return [];
      return [{ namespace: of === "." ? namespace : of, host: text.slice(slash + 1).toLowerCase() }];
    }),
  };
}

/** Inside the pod's own network, or a file in it: nothing of it ever gets to the node's proxy. */
export const isUnreachable = (bind: string | undefined): boolean =>
  bind !== undefined && (bind.startsWith("127.") || bind.startsWith("unix:") || bind === "::1");

const listenersOf = ({ byPort, rest }: SidecarScope): EgressListener[] => [...byPort.values(), ...(rest ? [rest] : [])];

const admits = ({ imports }: EgressListener, namespace: string, host: string): boolean =>
  imports.some((one) => (one.namespace === "*" || one.namespace === namespace) && hostCovers(one.host, host));

/** Whether clients are told of a service at all. */
export const importsService = ({ scope }: Audience, { namespace, host }: ServiceModel): boolean =>
  scope === undefined || listenersOf(scope).some((listener) => admits(listener, namespace, host));

/** Whether it is reached on this port: a port with a listener of its own has that one's imports only. */
export function servesPort({ scope }: Audience, { namespace, host }: ServiceModel, port: number): boolean {
  if (scope === undefined) return true;
  const listener = scope.byPort.get(port) ?? scope.rest;
  return listener !== undefined && admits(listener, namespace, host);
}

export const importsRules = ({ scope }: Audience, { namespace, hosts }: RuleSet): boolean =>
  scope === undefined ||
  listenersOf(scope).some(({ imports }) =>
    imports.some(
      (one) =>
        (one.namespace === "*" || one.namespace === namespace) &&
        hosts.some((host) => hostIntersection(one.host, host) !== undefined),
    ),
  );

/** The address a port's listener is bound to instead of all. */
export const bindOf = ({ scope }: Audience, port: number): string | undefined => scope?.byPort.get(port)?.bind;
