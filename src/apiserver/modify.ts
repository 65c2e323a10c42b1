// The one way a stored object changes: read, change, admit, compare-and-swap; again when another writer was faster.

import type { KindDefinition } from "../api/kind.ts";
import type { KubeObject } from "../api/object.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { admit } from "./admission.ts";
import { releaseServiceAddresses } from "./admission-service.ts";
import { modifiedConflict, notFound } from "./failure.ts";
import { decodeEntry, encode, recordKey } from "./records.ts";
import type { AdmissionRequest, CoreDeps } from "./types.ts";
import { countGeneration } from "./update.ts";

/** Rounds of read and swap before a writer is told there is a conflict. */
const attemptsMax = 16;

export interface Modification {
  kind: KindDefinition;
  namespace: string | undefined;
  name: string;
  /** The wanted object, from the stored one (which it must not change). Throws ApiFailure to refuse. May run several times. */
  change(current: KubeObject): KubeObject | Promise<KubeObject>;
  /** Whether defaults, validation and the rest of admission apply; the server's own changes go without. */
  admitted: boolean;
  dryRun: boolean;
}

export type Modified = { kind: "stored"; object: KubeObject } | { kind: "removed"; object: KubeObject };

/** Removes the object instead of storing it when it is being deleted and nothing holds it any more. */
export function modifyObject(deps: CoreDeps, modification: Modification): Promise<Modified> {
  const key = recordKey(modification.kind, modification.namespace, modification.name);
  return deps.locks.run(key, () => modify(deps, key, modification));
}

async function modify(deps: CoreDeps, key: string, modification: Modification): Promise<Modified> {
  const { kind, name } = modification;
  for (let attempt = 1; attempt <= attemptsMax; attempt++) {
    const entry = deps.store.get(key);
    if (entry === undefined) throw notFound(kind, name);
    const current = decodeEntry(entry);
    const wanted = await modification.change(current);
    const request: AdmissionRequest = { kind, object: wanted, old: current, undo: [], done: [] };
    if (modification.admitted) {
      admit(deps, request);
      countGeneration(current, wanted);
    }
    const giveBack = () => {
      for (const undo of request.undo.reverse()) undo();
    };
    if (modification.dryRun) {
      giveBack();
      return { kind: isReleased(wanted) ? "removed" : "stored", object: wanted };
    }
    try {
      const result = await swap(deps, key, entry.revision, entry.value, wanted, kind);
      for (const done of request.done) done();
      return result;
    } catch (error) {
      giveBack();
      if (!(error instanceof MeshbedError && error.code === "REVISION_CONFLICT")) throw error;
    }
  }
  throw modifiedConflict(kind, name);
}

async function swap(
  deps: CoreDeps,
  key: string,
  revision: number,
  oldText: string,
  wanted: KubeObject,
  kind: KindDefinition,
): Promise<Modified> {
  const at = (written: number): KubeObject => ({
    ...wanted,
    metadata: { ...wanted.metadata, resourceVersion: String(written) },
  });
  if (isReleased(wanted)) {
    const removed = at(await deps.store.delete(key, revision));
    if (kind.group === "" && kind.kind === "Service") releaseServiceAddresses(deps.addresses, removed);
    return { kind: "removed", object: removed };
  }
  const text = encode(wanted);
  // Writing what is there already would wake every watcher for nothing.
  if (text === oldText || Bun.deepEquals(JSON.parse(text), JSON.parse(oldText)))
    return { kind: "stored", object: at(revision) };
  return { kind: "stored", object: at(await deps.store.put(key, text, revision)) };
}

/** Marked for deletion, and neither a grace period nor a finalizer is left to wait for. */
function isReleased({ metadata, ...rest }: KubeObject): boolean {
  if (metadata.deletionTimestamp === undefined) return false;
  if ((metadata.deletionGracePeriodSeconds ?? 0) > 0) return false;
  if ((metadata.finalizers ?? []).length > 0) return false;
  const spec = rest["spec"] as { finalizers?: string[] } | undefined;
  return !(rest.kind === "Namespace" && (spec?.finalizers ?? []).length > 0);
}
