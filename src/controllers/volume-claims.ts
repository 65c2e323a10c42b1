// Binds PersistentVolumeClaims: to a fitting volume there is, else to a directory made for them; reclaims released volumes.

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Draft, keyOf } from "../api/object.ts";
import { compareQuantities } from "../api/quantity.ts";
import { persistentVolumeClaims, persistentVolumes, pods, storageClasses } from "../api/resources.ts";
import { matchesLabelSelectorSpec } from "../api/selectors.ts";
import type { PersistentVolume, PersistentVolumeClaim, Pod, StorageClass } from "../api/types.ts";
import { deleteObject, ignoreNotFound } from "../client/delete.ts";
import type { EventRecorder } from "../client/event-recorder.ts";
import { type IndexedInformer, isAlreadyExists, isNotFound, type ReconcileResult } from "../client/types.ts";
import { messageOf } from "../kernel/errors.ts";
import { isFinished } from "./pods.ts";
import { runController } from "./run.ts";
import type { Controller, ControllerDeps } from "./types.ts";

/** Storage classes with this provisioner get a directory per claim. */
export const directoryProvisioner = "meshbed.io/directory";
const protection = "kubernetes.io/pvc-protection";
const provisionedBy = "pv.kubernetes.io/provisioned-by";
const defaultClassAnnotation = "storageclass.kubernetes.io/is-default-class";

interface Self extends ControllerDeps {
  claims: IndexedInformer<PersistentVolumeClaim>;
  volumes: IndexedInformer<PersistentVolume>;
  classes: IndexedInformer<StorageClass>;
  podCache: IndexedInformer<Pod>;
  recorder: EventRecorder;
  volumesDir: string;
}

/** `volumesDir`: absolute path under which directories are made; nothing outside of it is ever removed. */
export function volumeClaimController(deps: ControllerDeps, volumesDir: string): Controller {
  const claims = deps.informers.of(persistentVolumeClaims);
  const volumes = deps.informers.of(persistentVolumes);
  const classes = deps.informers.of(storageClasses);
  const podCache = deps.informers.of(pods);
  const recorder = deps.recorderOf("persistentvolume-controller");
  const self: Self = { ...deps, claims, volumes, classes, podCache, recorder, volumesDir };
  return runController(deps, {
    name: "volume-claims",
    reconcile: (key) => reconcile(self, key),
    needs: [claims, volumes, classes, podCache],
    keys: () => [...claims.list().map(claimKey), ...volumes.list().map(volumeKey)],
    activeMax: 1, // two claims must not choose the same volume
    watch: (enqueue) => {
      const enqueuePending = () => {
        for (const claim of claims.list()) if (claim.status?.phase !== "Bound") enqueue(claimKey(claim));
      };
      return [
        claims.onChange((current, old) => {
          enqueue(claimKey((current ?? old)!));
          for (const volume of volumes.by("claim", keyOf((current ?? old)!))) enqueue(volumeKey(volume));
        }),
        volumes.onChange((current, old) => {
          enqueue(volumeKey((current ?? old)!));
          enqueuePending();
        }),
        classes.onChange(enqueuePending),
        podCache.onChange((current, old) => {
          if (current !== undefined && !isFinished(current)) return;
          const { metadata, spec } = (current ?? old)!;
          for (const { persistentVolumeClaim: use } of spec?.volumes ?? [])
            if (use !== undefined) enqueue(`claim ${metadata.namespace}/${use.claimName}`);
        }),
      ];
    },
  });
}

/** One queue for both kinds, so that they never work against each other. */
const claimKey = (claim: PersistentVolumeClaim) => `claim ${keyOf(claim)}`;
const volumeKey = (volume: PersistentVolume) => `volume ${keyOf(volume)}`;

function reconcile(self: Self, key: string): Promise<ReconcileResult> {
  const [kind, name = ""] = key.split(" ");
  return kind === "claim" ? reconcileClaim(self, name) : reconcileVolume(self, name);
}

async function reconcileClaim(self: Self, key: string): Promise<ReconcileResult> {
  const { recorder, claims, volumes, classes } = self;
  const claim = claims.get(key);
  if (claim === undefined) return { kind: "done" };
  if (claim.metadata.deletionTimestamp !== undefined) return unprotect(self, claim, key);
  const decision = plan(claim, volumes.list(), classes.list());
  switch (decision.kind) {
    case "wait":
      if (claim.status?.phase !== "Pending") await setPhase(self, claim, { phase: "Pending" });
      if (decision.why !== undefined)
        recorder.record(claim, decision.warn ? "Warning" : "Normal", decision.reason, decision.why);
      return { kind: "done" };
    case "lost":
      if (claim.status?.phase !== "Lost") {
        await setPhase(self, claim, { phase: "Lost" });
        recorder.record(
          claim,
          "Warning",
          "ClaimLost",
          "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        );
      }
      return { kind: "done" };
    case "provision":
      await bind(self, claim, await provision(self, claim, decision.storageClass), decision.storageClass);
      return { kind: "done" };
    case "bind":
      await bind(self, claim, decision.volume, undefined);
      return { kind: "done" };
  }
}

async function provision(
  self: Self,
  claim: PersistentVolumeClaim,
  storageClass: StorageClass,
): Promise<PersistentVolume> {
  const { client, recorder, volumes, volumesDir } = self;
  const name = `pvc-${claim.metadata.uid}`;
  const path = join(volumesDir, name);
  try {
    await mkdir(path, { recursive: true, mode: 0o777 });
    const volume = await client.create(persistentVolumes, volumeOf(claim, storageClass, name, path));
    volumes.observe(volume);
    recorder.record(claim, "Normal", "ProvisioningSucceeded", `Successfully provisioned volume ${name}`);
    return volume;
  } catch (error) {
    if (isAlreadyExists(error)) return client.get(persistentVolumes, undefined, name);
    const { name: className } = storageClass.metadata;
    const text = `failed to provision volume with StorageClass "${className}": ${messageOf(error)}`;
    recorder.record(claim, "Warning", "ProvisioningFailed", text);
    throw error;
  }
}

/** Volume first, then claim, then their phases: a crash between two steps is picked up where it stopped. */
async function bind(
  self: Self,
  claim: PersistentVolumeClaim,
  found: PersistentVolume,
  storageClass: StorageClass | undefined,
) {
  const { client, claims, volumes } = self;
  const { namespace, name, uid, resourceVersion } = claim.metadata;
  let volume = found;
  if (volume.spec?.claimRef?.uid !== uid) {
    const claimRef = {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      namespace: namespace!,
      name,
      uid,
      resourceVersion,
    };
    volume = await client.update(persistentVolumes, { ...volume, spec: { ...volume.spec, claimRef } });
    volumes.observe(volume);
  }
  let bound = claim;
  const finalizers = claim.metadata.finalizers ?? [];
  const isWritten = claim.spec?.volumeName === volume.metadata.name && finalizers.includes(protection);
  if (!isWritten) {
    const annotations = {
      "pv.kubernetes.io/bind-completed": "yes",
      "pv.kubernetes.io/bound-by-controller": "yes",
      ...(storageClass && { "volume.kubernetes.io/storage-provisioner": storageClass.provisioner }),
    };
    bound = await client.patch(persistentVolumeClaims, namespace, name, {
      metadata: { annotations, finalizers: [...new Set([...finalizers, protection])] },
      spec: {
        volumeName: volume.metadata.name,
        ...(storageClass &&
          claim.spec?.storageClassName === undefined && { storageClassName: storageClass.metadata.name }),
      },
    });
    claims.observe(bound);
  }
  const { accessModes, capacity } = volume.spec ?? {};
  const status = { phase: "Bound", ...(accessModes && { accessModes }), ...(capacity && { capacity }) };
  if (!Bun.deepEquals(bound.status ?? {}, status)) await setPhase(self, bound, status);
  await reconcileVolume(self, volume.metadata.name);
}

/** A claim in use stays until its last pod is gone. */
async function unprotect(self: Self, claim: PersistentVolumeClaim, key: string): Promise<ReconcileResult> {
  const { client, podCache } = self;
  const finalizers = claim.metadata.finalizers ?? [];
  if (!finalizers.includes(protection)) return { kind: "done" };
  if (podCache.by("claim", key).some((pod) => !isFinished(pod))) return { kind: "done" };
  const left = finalizers.filter((finalizer) => finalizer !== protection);
  const { namespace, name } = claim.metadata;
  await client
    .patch(persistentVolumeClaims, namespace, name, { metadata: { finalizers: left.length > 0 ? left : null } })
    .catch(ignoreNotFound);
  return { kind: "done" };
}

async function setPhase(self: Self, claim: PersistentVolumeClaim, status: object): Promise<void> {
  const { client, claims } = self;
  const { namespace, name } = claim.metadata;
  claims.observe(await client.patch(persistentVolumeClaims, namespace, name, { status }, { subresource: "status" }));
}

/** Available → Bound → Released → gone (reclaim policy Delete) or kept (Retain). */
async function reconcileVolume(self: Self, name: string): Promise<ReconcileResult> {
  const { client, claims, volumes, volumesDir } = self;
  const volume = volumes.get(name);
  if (volume === undefined || volume.metadata.deletionTimestamp !== undefined) return { kind: "done" };
  const { claimRef } = volume.spec ?? {};
  const claim = claimRef && claims.get(`${claimRef.namespace}/${claimRef.name}`);
  const isHeld = claimRef !== undefined && (claimRef.uid === undefined || claim?.metadata.uid === claimRef.uid);
  const phase = claimRef?.uid === undefined ? "Available" : isHeld ? "Bound" : "Released";
  if (phase === "Released" && !(await isClaimGone(self, claimRef!))) return { kind: "again", afterMs: 100 };
  if (volume.status?.phase !== phase)
    volumes.observe(
      await client.patch(persistentVolumes, undefined, name, { status: { phase } }, { subresource: "status" }),
    );
  if (phase !== "Released" || volume.spec?.persistentVolumeReclaimPolicy !== "Delete") return { kind: "done" };
  const path = volume.spec.hostPath?.path;
  const isOurs = volume.metadata.annotations?.[provisionedBy] === directoryProvisioner;
  if (!isOurs || path !== join(volumesDir, name)) return { kind: "done" };
  await rm(path, { recursive: true, force: true });
  await deleteObject(client, persistentVolumes, volume);
  return { kind: "done" };
}

/** Data is at stake: the server, not the cache, says that the claim no longer exists. */
async function isClaimGone(
  self: Self,
  claimRef: { namespace?: string; name?: string; uid?: string },
): Promise<boolean> {
  const { client } = self;
  try {
    const claim = await client.get(persistentVolumeClaims, claimRef.namespace, claimRef.name ?? "");
    return claim.metadata.uid !== claimRef.uid;
  } catch (error) {
    if (isNotFound(error)) return true;
    throw error;
  }
}

function volumeOf(
  claim: PersistentVolumeClaim,
  storageClass: StorageClass,
  name: string,
  path: string,
): Draft<PersistentVolume> {
  const { uid, namespace, name: claimName } = claim.metadata;
  return {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name, annotations: { [provisionedBy]: directoryProvisioner } },
    spec: {
      capacity: { storage: claim.spec?.resources?.requests?.["storage"] ?? "1Gi" },
      accessModes: claim.spec?.accessModes ?? ["ReadWriteMany"],
      volumeMode: "Filesystem",
      persistentVolumeReclaimPolicy: (storageClass.reclaimPolicy ?? "Delete") as "Delete",
      storageClassName: storageClass.metadata.name,
      claimRef: { apiVersion: "v1", kind: "PersistentVolumeClaim", namespace: namespace!, name: claimName, uid },
      hostPath: { path, type: "DirectoryOrCreate" },
    },
  };
}

export type ClaimPlan =
  | { kind: "bind"; volume: PersistentVolume }
  | { kind: "provision"; storageClass: StorageClass }
  | { kind: "wait"; reason: string; why?: string; warn?: boolean }
  | { kind: "lost" };

/** What a claim needs next. A volume that fits is taken before one is made; of several the smallest. */
export function plan(
  claim: PersistentVolumeClaim,
  volumes: readonly PersistentVolume[],
  classes: readonly StorageClass[],
): ClaimPlan {
  const { uid, namespace, name } = claim.metadata;
  const own = volumes.find((volume) => volume.spec?.claimRef?.uid === uid);
  const wantedName = claim.spec?.volumeName;
  if (own !== undefined && (!wantedName || own.metadata.name === wantedName)) return { kind: "bind", volume: own };
  const wasBound = claim.metadata.annotations?.["pv.kubernetes.io/bind-completed"] === "yes";
  if (wantedName) {
    const volume = volumes.find((each) => each.metadata.name === wantedName);
    if (volume === undefined || (volume.spec?.claimRef?.uid !== undefined && volume.spec.claimRef.uid !== uid))
      return wasBound ? { kind: "lost" } : { kind: "wait", reason: "FailedBinding" };
    return { kind: "bind", volume };
  }
  const className = claim.spec?.storageClassName ?? defaultClassOf(classes)?.metadata.name ?? "";
  const storageClass = classes.find((each) => each.metadata.name === className);
  const isReserved = (volume: PersistentVolume) =>
    volume.spec?.claimRef?.namespace === namespace &&
    volume.spec?.claimRef?.name === name &&
    !volume.spec?.claimRef?.uid;
  const fitting = volumes
    .filter((volume) => isReserved(volume) || volume.spec?.claimRef === undefined)
    .filter((volume) => fits(claim, volume, className))
    .sort((a, b) => Number(isReserved(b)) - Number(isReserved(a)) || compareQuantities(sizeOf(a), sizeOf(b)));
  if (fitting[0] !== undefined) return { kind: "bind", volume: fitting[0] };
  if (className === "")
    return {
      kind: "wait",
      reason: "FailedBinding",
      why: "no persistent volumes available for this claim and no storage class is set",
    };
  if (storageClass === undefined)
    return {
      kind: "wait",
      reason: "ProvisioningFailed",
      why: `storageclass.storage.k8s.io "${className}" not found`,
      warn: true,
    };
  if (storageClass.provisioner === directoryProvisioner) return { kind: "provision", storageClass };
  const why = `Waiting for a volume to be created either by the external provisioner '${storageClass.provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.`;
  return { kind: "wait", reason: "ExternalProvisioning", why };
}

const sizeOf = (volume: PersistentVolume) => volume.spec?.capacity?.["storage"] ?? "0";

const defaultClassOf = (classes: readonly StorageClass[]) =>
  classes
    .filter((each) => each.metadata.annotations?.[defaultClassAnnotation] === "true")
    .sort((a, b) => (a.metadata.creationTimestamp > b.metadata.creationTimestamp ? -1 : 1))[0];

function fits(claim: PersistentVolumeClaim, volume: PersistentVolume, className: string): boolean {
  if (volume.metadata.deletionTimestamp !== undefined) return false;
  if ((volume.spec?.storageClassName ?? "") !== className) return false;
  const modes: readonly string[] = volume.spec?.accessModes ?? [];
  if (!(claim.spec?.accessModes ?? []).every((mode) => modes.includes(mode))) return false;
  if ((volume.spec?.volumeMode ?? "Filesystem") !== (claim.spec?.volumeMode ?? "Filesystem")) return false;
  if (compareQuantities(sizeOf(volume), claim.spec?.resources?.requests?.["storage"] ?? "0") < 0) return false;
  return claim.spec?.selector === undefined || matchesLabelSelectorSpec(claim.spec.selector, volume.metadata.labels);
}
