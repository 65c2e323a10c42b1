// The indexes of the shared informers: by controller, by node, by namespace.

import { keyOf, type ObjectMeta } from "../api/object.ts";
import type { EndpointSlice, Pod } from "../api/types.ts";
import type { Indexes } from "../client/types.ts";
import { controllerOf } from "./ownership.ts";

type Owned = { metadata: ObjectMeta };
const byNamespace = (object: Owned) => [object.metadata.namespace ?? ""];

/** Under its controller's uid, or as "orphan/<namespace>" when it has none. */
const byController = (object: Owned) => [controllerOf(object)?.uid ?? `orphan/${object.metadata.namespace ?? ""}`];

export const serviceNameLabel = "kubernetes.io/service-name";

const owned = { namespace: byNamespace, controller: byController };

/** By plural: see createInformers. */
export const controllerIndexes: Record<string, Indexes<never>> = {
  pods: {
    ...owned,
    node: (pod: Pod) => (pod.spec?.nodeName === undefined ? [] : [pod.spec.nodeName]),
    claim: (pod: Pod) =>
      (pod.spec?.volumes ?? []).flatMap(({ persistentVolumeClaim: claim }) =>
        claim === undefined ? [] : [`${pod.metadata.namespace}/${claim.claimName}`],
      ),
  },
  replicasets: owned,
  deployments: { namespace: byNamespace },
  daemonsets: { namespace: byNamespace },
  services: { namespace: byNamespace },
  endpointslices: {
    service: (slice: EndpointSlice) => {
      const name = slice.metadata.labels?.[serviceNameLabel];
      return name === undefined ? [] : [keyOf({ metadata: { name, namespace: slice.metadata.namespace! } })];
    },
  },
  persistentvolumes: {
    claim: (volume: { spec?: { claimRef?: { namespace?: string; name?: string } } }) => {
      const claim = volume.spec?.claimRef;
      return claim === undefined ? [] : [`${claim.namespace}/${claim.name}`];
    },
  },
};

/** Candidates for claiming: what `uid` controls and what nobody controls in the namespace. */
export function candidatesOf<T>(
  informer: { by(name: string, value: string): T[] },
  uid: string,
  namespace: string | undefined,
): T[] {
  return [...informer.by("controller", uid), ...informer.by("controller", `orphan/${namespace ?? ""}`)];
}
