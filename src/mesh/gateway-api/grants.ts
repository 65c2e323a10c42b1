// ReferenceGrants: which kind of object of which namespace may name which object of another. Pure.

import type { ReferenceGrant } from "../../api/types.ts";

export interface Referrer {
  group: string;
  kind: string;
  namespace: string;
}

export interface Referent extends Referrer {
  name: string;
}

export type IsGranted = (from: Referrer, to: Referent) => boolean;

/** Within a namespace everything is granted. */
export function grantsOf(grants: readonly ReferenceGrant[]): IsGranted {
  const byNamespace = Map.groupBy(grants, ({ metadata }) => metadata.namespace ?? "default");
  return (from, to) => {
    if (from.namespace === to.namespace) return true;
    return (byNamespace.get(to.namespace) ?? []).some(
      ({ spec }) =>
        spec?.from.some(
          ({ group, kind, namespace }) => group === from.group && kind === from.kind && namespace === from.namespace,
        ) &&
        spec.to.some(({ group, kind, name }) => group === to.group && kind === to.kind && (!name || name === to.name)),
    );
  };
}
