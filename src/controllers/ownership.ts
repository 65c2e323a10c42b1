// Who owns what: controller references, and adoption and release of objects by label selector.

import type { ObjectMeta, OwnerReference } from "../api/object.ts";
import { type LabelSelectorSpec, labelSelectorOf, matchesLabels } from "../api/selectors.ts";

type Owned = { metadata: ObjectMeta };
type Owner = { apiVersion: string; kind: string; metadata: ObjectMeta };

/** The one owner that manages this object, if it has one. */
export function controllerOf(object: Owned): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((reference) => reference.controller === true);
}

/** The reference a controller puts into what it creates. */
export function controllerReference(owner: Owner): OwnerReference {
  return {
    apiVersion: owner.apiVersion,
    kind: owner.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}

export interface Claims<T> {
  /** Owned and matching. */
  owned: T[];
  /** Matching and without a controller: to be adopted, then owned. */
  adopt: T[];
  /** Owned and no longer matching: to be let go. */
  release: T[];
}

/** Sorts candidates as Kubernetes' ControllerRefManager: an owner being deleted adopts and releases nothing. */
export function claim<T extends Owned>(
  owner: Owner,
  selector: LabelSelectorSpec | undefined,
  candidates: Iterable<T>,
): Claims<T> {
  const requirements = labelSelectorOf(selector);
  const claims: Claims<T> = { owned: [], adopt: [], release: [] };
  const isDeleting = owner.metadata.deletionTimestamp !== undefined;
  for (const candidate of candidates) {
    const controller = controllerOf(candidate);
    const matches = requirements !== undefined && matchesLabels(requirements, candidate.metadata.labels);
    if (controller !== undefined) {
      if (controller.uid !== owner.metadata.uid) continue;
      if (matches || isDeleting) claims.owned.push(candidate);
      else claims.release.push(candidate);
    } else if (matches && !isDeleting && candidate.metadata.deletionTimestamp === undefined)
      claims.adopt.push(candidate);
  }
  return claims;
}

/** Merge patch that makes `owner` the controller of `object`; refused by the server when the object was replaced meanwhile. */
export function adoptPatch(owner: Owner, object: Owned): object {
  const references = object.metadata.ownerReferences ?? [];
  return { metadata: { uid: object.metadata.uid, ownerReferences: [...references, controllerReference(owner)] } };
}

/** Merge patch that removes the references to these uids. */
export function releasePatch(object: Owned, ownerUids: ReadonlySet<string>): object {
  const left = (object.metadata.ownerReferences ?? []).filter((reference) => !ownerUids.has(reference.uid));
  return { metadata: { uid: object.metadata.uid, ownerReferences: left.length === 0 ? null : left } };
}
