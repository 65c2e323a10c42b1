// Which policies are about a workload, and what its PeerAuthentications add up to. Pure.

import type { Attached, MutualTlsMode } from "../api/security.ts";
import { matchesMap } from "../api/selectors.ts";
import type { PeerAuthentication } from "../api/types.ts";
import type { Model, Workload } from "./types.ts";

interface Policy {
  metadata: { namespace?: string };
  spec?: Attached;
}

/** The pods of a Gateway of the Gateway API carry its name. */
const gatewayNameLabel = "gateway.networking.k8s.io/gateway-name";

/** Those of the workload's own and the root namespace that select it, in the order given (Istio: policies by selector or targetRef). */
export function policiesFor<P extends Policy>(policies: readonly P[], model: Model, workload: Workload): P[] {
  return policies.filter(({ metadata, spec }) => {
    const { rootNamespace } = model.config;
    if (metadata.namespace !== workload.namespace && metadata.namespace !== rootNamespace) return false;
    const refs = targetRefsOf(spec);
    if (refs.length === 0) return matchesMap(spec?.selector?.matchLabels, workload.labels);
    // What is named is in the policy's own namespace.
    if (metadata.namespace !== workload.namespace) return false;
    const gateway = workload.labels[gatewayNameLabel];
    return refs.some((ref) => isGateway(ref) && gateway === ref.name);
  });
}

export const targetRefsOf = (spec: Attached | undefined) =>
  spec?.targetRefs ?? (spec?.targetRef ? [spec.targetRef] : []);

export const isGateway = ({ group, kind }: { group?: string; kind: string }): boolean =>
  kind === "Gateway" && group === "gateway.networking.k8s.io";

const hasSelector = ({ spec }: PeerAuthentication): boolean =>
  Object.keys(spec?.selector?.matchLabels ?? {}).length > 0;

export type PeerMode = Exclude<MutualTlsMode, "UNSET">;

/** For all ports of the workload that are not in `ports`. */
export interface PeerModes {
  mode: PeerMode;
  ports: ReadonlyMap<number, PeerMode>;
}

const permissive: PeerModes = { mode: "PERMISSIVE", ports: new Map() };

/** Root namespace < namespace < workload, the oldest of each; UNSET inherits (Istio: ComposePeerAuthentication). */
export function peerModesOf(model: Model, workload: Workload): PeerModes {
  if (model.peerAuthentications.length === 0) return permissive;
  const policies = policiesFor(model.peerAuthentications, model, workload);
  const { rootNamespace } = model.config;
  const wide = policies.filter((policy) => !hasSelector(policy));
  // A selector in the root namespace has no meaning (Istio ignores such a policy).
  const own = policies.find((policy) => hasSelector(policy) && policy.metadata.namespace !== rootNamespace);
  const levels = [
    wide.find(({ metadata }) => metadata.namespace === rootNamespace),
    wide.find(({ metadata }) => metadata.namespace === workload.namespace),
    own,
  ];
  let mode: PeerMode = "PERMISSIVE";
  for (const level of levels) {
    const set = level?.spec?.mtls?.mode;
    if (set !== undefined && set !== "UNSET") mode = set;
  }
  const ports = new Map<number, PeerMode>();
  for (const [port, { mode: set }] of Object.entries(own?.spec?.portLevelMtls ?? {}))
    if (set !== undefined && set !== "UNSET") ports.set(Number(port), set);
  return { mode, ports };
}

export const peerModeOf = ({ mode, ports }: PeerModes, containerPort: number): PeerMode =>
  ports.get(containerPort) ?? mode;
