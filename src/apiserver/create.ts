// create: a new object through admission into the store.

import type { KindDefinition } from "../api/kind.ts";
import type { KubeObject } from "../api/object.ts";
import { timestamp } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { nameSuffix, uuid } from "../kernel/random.ts";
import { admit } from "./admission.ts";
import { alreadyExists, badRequest } from "./failure.ts";
import { encode, recordKey } from "./records.ts";
import type { AdmissionRequest, CoreDeps } from "./types.ts";

/** Other suffixes are tried this often when a generated name is taken. */
const generatedNamesMax = 8;
const generatedNamePrefixMax = 58;

/** Kinds whose creator may set the status: their writers register what they have found. */
const statusOnCreate = new Set(["Node", "Event"]);
/** Kinds without metadata.generation. */
const ungenerated = new Set(["Namespace", "Node", "Service", "PersistentVolume", "PersistentVolumeClaim"]);

/** Stores `object` (the caller's own copy) and answers it as stored. */
export async function createObject(
  deps: CoreDeps,
  kind: KindDefinition,
  object: KubeObject,
  options: { dryRun: boolean },
): Promise<KubeObject> {
  const { metadata } = object;
  if (metadata.resourceVersion) throw badRequest("resourceVersion should not be set on objects to be created");
  const generateName = metadata.name ? undefined : metadata.generateName;
  for (let attempt = 1; ; attempt++) {
    const candidate = structuredClone(object);
    if (generateName) candidate.metadata.name = generateName.slice(0, generatedNamePrefixMax) + nameSuffix(deps.random);
    try {
      return await store(deps, kind, candidate, options);
    } catch (error) {
      const taken = error instanceof MeshbedError && error.code === "API_ALREADY_EXISTS";
      if (!taken || generateName === undefined || attempt >= generatedNamesMax) throw error;
    }
  }
}

async function store(
  deps: CoreDeps,
  kind: KindDefinition,
  object: KubeObject,
  { dryRun }: { dryRun: boolean },
): Promise<KubeObject> {
  prepare(deps, kind, object);
  const request: AdmissionRequest = { kind, object, old: undefined, undo: [], done: [] };
  const key = recordKey(kind, object.metadata.namespace, object.metadata.name ?? "");
  admit(deps, request);
  const giveBack = () => {
    for (const undo of request.undo.reverse()) undo();
  };
  if (dryRun || deps.store.get(key) !== undefined) {
    giveBack();
    if (deps.store.get(key) !== undefined) throw alreadyExists(kind, object.metadata.name);
    return object;
  }
  try {
    const revision = await deps.store.put(key, encode(object), 0);
    object.metadata.resourceVersion = String(revision);
  } catch (error) {
    giveBack();
    if (error instanceof MeshbedError && error.code === "REVISION_CONFLICT")
      throw alreadyExists(kind, object.metadata.name);
    throw error;
  }
  for (const done of request.done) done();
  return object;
}

/** Sets what only the server may say of a new object. */
function prepare({ clock }: CoreDeps, kind: KindDefinition, object: KubeObject): void {
  const { metadata } = object;
  metadata.uid = uuid();
  metadata.creationTimestamp = timestamp(clock);
  delete metadata.deletionTimestamp;
  delete metadata.deletionGracePeriodSeconds;
  delete metadata.generation;
  if (!kind.hasStatus) return;
  if (!statusOnCreate.has(kind.kind)) delete object["status"];
  if (!ungenerated.has(kind.kind)) metadata.generation = 1;
}
