// delete and deletecollection: grace periods, finalizers, preconditions, propagation (metav1.DeleteOptions).

import type { KindDefinition } from "../api/kind.ts";
import type { KubeObject, Status } from "../api/object.ts";
import type { Clock } from "../kernel/clock.ts";
import { isRecord } from "./body.ts";
import { ApiFailure, badRequest, conflict, forbidden } from "./failure.ts";
import { listObjects } from "./list.ts";
import { type Modified, modifyObject } from "./modify.ts";
import type { CoreDeps } from "./types.ts";

export interface DeleteOptions {
  gracePeriodSeconds: number | undefined;
  propagation: "Orphan" | "Background" | "Foreground" | undefined;
  uid: string | undefined;
  resourceVersion: string | undefined;
  dryRun: boolean;
}

/** Done by the garbage collector before the object goes: it removes dependents, or their references to the owner. */
export const foregroundFinalizer = "foregroundDeletion";
export const orphanFinalizer = "orphan";

const podGracePeriodSeconds = 30;
const immortalNamespaces = ["default", "kube-system", "kube-public"];

type Query = Readonly<Record<string, string>>;

/** Options of the body, else of the query. Throws 400. */
export function deleteOptionsOf(body: unknown, query: Query): DeleteOptions {
  if (body !== undefined && body !== null && !isRecord(body)) throw badRequest("the body must be DeleteOptions");
  const sent = isRecord(body) ? body : {};
  const preconditions = isRecord(sent["preconditions"]) ? sent["preconditions"] : {};
  const grace = sent["gracePeriodSeconds"] ?? (query["gracePeriodSeconds"] && Number(query["gracePeriodSeconds"]));
  if (grace !== undefined && grace !== "" && !(Number.isSafeInteger(grace) && (grace as number) >= 0))
    throw badRequest(`gracePeriodSeconds: Invalid value: ${JSON.stringify(grace)}: must be a whole number of seconds`);
  const orphan = sent["orphanDependents"] ?? query["orphanDependents"];
  const propagation =
    sent["propagationPolicy"] ??
    query["propagationPolicy"] ??
    (orphan === undefined ? undefined : String(orphan) === "true" ? "Orphan" : "Background");
  if (propagation !== undefined && !["Orphan", "Background", "Foreground"].includes(propagation as string))
    throw badRequest(
      `propagationPolicy: Unsupported value: "${propagation}": supported values: "Foreground", "Background", "Orphan"`,
    );
  const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);
  return {
    gracePeriodSeconds: typeof grace === "number" ? grace : undefined,
    propagation: propagation as DeleteOptions["propagation"],
    uid: text(preconditions["uid"]),
    resourceVersion: text(preconditions["resourceVersion"]),
    dryRun: [sent["dryRun"], query["dryRun"]].flat().includes("All"),
  };
}

export function deleteObject(
  deps: CoreDeps,
  kind: KindDefinition,
  namespace: string | undefined,
  name: string,
  options: DeleteOptions,
): Promise<Modified> {
  if (kind.group === "" && kind.kind === "Namespace" && immortalNamespaces.includes(name))
    throw forbidden(kind, name, "this namespace may not be deleted");
  return modifyObject(deps, {
    kind,
    namespace,
    name,
    admitted: false,
    dryRun: options.dryRun,
    change(current) {
      checkPreconditions(kind, current, options);
      return marked(deps.clock, kind, current, options);
    },
  });
}

function checkPreconditions(kind: KindDefinition, { metadata }: KubeObject, options: DeleteOptions): void {
  const { uid, resourceVersion } = options;
  if (uid !== undefined && uid !== metadata.uid)
    throw conflict(
      kind,
      metadata.name,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${metadata.uid}`,
    );
  if (resourceVersion !== undefined && resourceVersion !== metadata.resourceVersion)
    throw conflict(
      kind,
      metadata.name,
      `Precondition failed: ResourceVersion in precondition: ${resourceVersion}, ResourceVersion in object meta: ${metadata.resourceVersion}`,
    );
}

/** The object with its mark of deletion; it goes at once when nothing holds it. */
function marked(clock: Clock, kind: KindDefinition, current: KubeObject, options: DeleteOptions): KubeObject {
  const graceSeconds = kind.group === "" && kind.kind === "Pod" ? podGrace(current, options.gracePeriodSeconds) : 0;
  const old = current.metadata;
  const finalizers = finalizersFor(old.finalizers ?? [], options.propagation);
  const metadata = { ...old, finalizers };
  if (finalizers.length === 0) delete (metadata as Partial<typeof metadata>).finalizers;
  const shorter = graceSeconds < (old.deletionGracePeriodSeconds ?? Number.POSITIVE_INFINITY);
  if (old.deletionTimestamp === undefined || shorter) {
    // A shorter period counts from the first request.
    const requestedMs =
      old.deletionTimestamp === undefined
        ? clock.now()
        : Date.parse(old.deletionTimestamp) - (old.deletionGracePeriodSeconds ?? 0) * 1000;
    metadata.deletionTimestamp = `${new Date(requestedMs + graceSeconds * 1000).toISOString().slice(0, 19)}Z`;
    metadata.deletionGracePeriodSeconds = graceSeconds;
    if (old.deletionTimestamp === undefined && old.generation !== undefined) metadata.generation = old.generation + 1;
  }
  const object: KubeObject = { ...current, metadata };
  if (kind.group === "" && kind.kind === "Namespace")
    object["status"] = { ...(current["status"] as object | undefined), phase: "Terminating" };
  return object;
}

/** A pod that never reached a node, or whose containers have ended, has nothing to wind up. */
function podGrace(pod: KubeObject, asked: number | undefined): number {
  const spec = (pod["spec"] ?? {}) as { nodeName?: string; terminationGracePeriodSeconds?: number };
  const { phase } = (pod["status"] ?? {}) as { phase?: string };
  if (!spec.nodeName || phase === "Succeeded" || phase === "Failed") return 0;
  return asked ?? spec.terminationGracePeriodSeconds ?? podGracePeriodSeconds;
}

function finalizersFor(finalizers: readonly string[], propagation: DeleteOptions["propagation"]): string[] {
  if (propagation === undefined) return [...finalizers];
  const others = finalizers.filter((each) => each !== foregroundFinalizer && each !== orphanFinalizer);
  if (propagation === "Foreground") return [...others, foregroundFinalizer];
  if (propagation === "Orphan") return [...others, orphanFinalizer];
  return others;
}

/** Deletes everything selected; answers the objects as they were marked or removed. */
export async function deleteCollection(
  deps: CoreDeps,
  kind: KindDefinition,
  namespace: string | undefined,
  query: Query,
  options: DeleteOptions,
): Promise<{ items: KubeObject[]; resourceVersion: string }> {
  const { items, metadata } = listObjects(deps.store, kind, namespace, query);
  const outcomes = await Promise.allSettled(
    items.map((item) => deleteObject(deps, kind, item.metadata.namespace, item.metadata.name, options)),
  );
  const deleted: KubeObject[] = [];
  for (const outcome of outcomes)
    if (outcome.status === "fulfilled") deleted.push(outcome.value.object);
    else if (!(outcome.reason instanceof ApiFailure && outcome.reason.status.code === 404)) throw outcome.reason;
  return { items: deleted, resourceVersion: metadata.resourceVersion };
}

/** The answer to a delete that removed the object at once. */
export function deletedStatus(kind: KindDefinition, { metadata }: KubeObject): Status {
  return {
    apiVersion: "v1",
    kind: "Status",
    metadata: {},
    status: "Success",
    details: {
      name: metadata.name,
      ...(kind.group !== "" && { group: kind.group }),
      kind: kind.plural,
      uid: metadata.uid,
    },
  };
}
