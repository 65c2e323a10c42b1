// EndpointSlices and pods → load assignments, with locality, health and tunnel. Pure.

import type { ClusterLoadAssignment } from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { matchesMap } from "../api/selectors.ts";
import { type AppliedPolicy, policyOfPort, withMeshSettings } from "./policies.ts";
import { givenEndpoints } from "./service-entries.ts";
import { assignment } from "./translate-assignment.ts";
import { outboundName } from "./translate-clusters.ts";
import { groupByLocality, type Locality, type Place } from "./translate-locality.ts";
import { type PeerMode, peerModeOf, peerModesOf } from "./translate-security.ts";
import { usesTunnel } from "./translate-upstream-tls.ts";
import type { Model, PortModel, ServiceModel, Workload } from "./types.ts";

/** One address behind a service port. */
export interface Endpoint {
  address: string;
  port: number;
  draining: boolean;
  workload: Workload | undefined;
  nodeName: string;
  /** What its PeerAuthentications make of its port; DISABLE outside the mesh. */
  peers: PeerMode;
  /** What subsets ask for; a pod's own where absent. */
  labels?: Readonly<Record<string, string>> | undefined;
  /** 1 where absent. */
  weight?: number | undefined;
  /** Its node's where absent. */
  locality?: Locality | undefined;
}

/** Further endpoints of one service port are left out; nothing on one machine comes near. */
const endpointsMax = 10_000;

/** Ready endpoints, and those that end but still serve; none at all when none is ready. Sorted by address. */
export function endpointsOf(model: Model, service: ServiceModel, port: PortModel): Endpoint[] {
  const found = new Map<string, Endpoint>();
  for (const slice of service.slices) {
    const slicePort = slice.ports?.find((candidate) => (candidate.name ?? "") === port.name)?.port;
    if (slicePort === undefined || slice.addressType === "FQDN") continue;
    for (const { addresses, conditions, targetRef, nodeName } of slice.endpoints ?? []) {
      const ready = conditions?.ready !== false;
      const draining = !ready && conditions?.terminating === true && conditions.serving !== false;
      if (!ready && !draining) continue;
      const key = targetRef?.kind === "Pod" ? `${targetRef.namespace ?? service.namespace}/${targetRef.name}` : "";
      const workload = model.workloadByKey.get(key);
      // In `ports` mode the process listens on a port of its own; elsewhere the table is empty.
      const actual = workload?.ports[slicePort] ?? slicePort;
      const peers = workload?.injected ? peerModeOf(peerModesOf(model, workload), slicePort) : "DISABLE";
      for (const address of addresses) {
        if (found.size >= endpointsMax) break;
        const node = nodeName ?? workload?.nodeName ?? "";
        const endpoint = { address, port: actual, draining, workload, nodeName: node, peers };
        const id = `${address}:${actual}`;
        if (found.get(id)?.draining !== false) found.set(id, endpoint);
      }
    }
  }
  const endpoints = [...found.values(), ...givenEndpoints(model, service, port)];
  if (!endpoints.some((endpoint) => !endpoint.draining)) return [];
  return endpoints.sort((a, b) => (a.address === b.address ? a.port - b.port : a.address < b.address ? -1 : 1));
}

/** One assignment per port and subset. `policy` and `place` undefined: for clients outside the mesh, who connect in plain TCP. */
export function serviceAssignments(
  model: Model,
  service: ServiceModel,
  policy: AppliedPolicy | undefined,
  place: Place | undefined,
): ClusterLoadAssignment[] {
  const assignments: ClusterLoadAssignment[] = [];
  if (service.entry !== undefined && service.entry.resolution !== "STATIC") return assignments;
  for (const port of service.ports) {
    if (port.protocol === "udp") continue;
    const all = endpointsOf(model, service, port);
    for (const subset of [undefined, ...(policy?.subsets ?? [])]) {
      const name = outboundName(port.port, subset?.name ?? "", service.host);
      const applied = withMeshSettings(model, policyOfPort(policy?.trafficPolicy, subset?.trafficPolicy, port.port));
      // Auto mTLS is for the mesh's own: what is said to be outside is reached as the rules say (Istio: MeshExternal).
      const tunnel =
        policy !== undefined && usesTunnel(applied.tls, model) && !(service.entry?.isExternal && !applied.tls);
      // In a panic everybody gets requests: those that end must not.
      const panics = Boolean(applied.outlierDetection?.minHealthPercent);
      const endpoints = all.filter(
        ({ workload, draining, labels }) =>
          (subset === undefined || matchesMap(subset.labels, labels ?? workload?.labels ?? {})) &&
          !(panics && draining),
      );
      const live = endpoints.some((endpoint) => !endpoint.draining) ? endpoints : [];
      assignments.push(assignment(name, groupByLocality(model, live, applied, place), tunnel));
    }
  }
  return assignments;
}
