// Makes a pod's volumes exist on this machine and says what each container mounts where.

import { chmodSync, closeSync, existsSync, mkdirSync, openSync, realpathSync, statSync } from "node:fs";
import { isAbsolute, join, normalize } from "node:path";
import { persistentVolumeClaims, persistentVolumes } from "../api/resources.ts";
import type { Pod } from "../api/types.ts";
import { type Client, isNotFound } from "../client/types.ts";
import type { Mount } from "../host/types.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { sameFiles, writeAtomically } from "./atomic-writer.ts";
import type { ConfigSource } from "./env.ts";
import { expand } from "./expand.ts";
import type { PodFacts } from "./pod-fields.ts";
import { type Volume, type VolumeFiles, volumeFiles } from "./volume-files.ts";

type Container = NonNullable<Pod["spec"]>["containers"][number];

export interface PreparedVolume {
  /** Directory or file outside the pod. */
  path: string;
  readOnly: boolean;
  /** What was written, for volumes made of API objects. */
  files: VolumeFiles | undefined;
}
export type PreparedVolumes = Map<string, PreparedVolume>;

export interface VolumeDeps {
  client: Client;
  /** Private to this pod; removed with it. */
  podVolumesDir: string;
  /** Base of PersistentVolume paths that are not absolute. */
  volumesDir: string;
  source: ConfigSource;
  nowMs: number;
}

const failMount = (message: string) => new MeshbedError("MOUNT", message);

/** Throws MeshbedError MOUNT, its message naming the volume as kubectl describe users know it. */
export async function prepareVolumes(facts: PodFacts, deps: VolumeDeps): Promise<PreparedVolumes> {
  const prepared: PreparedVolumes = new Map();
  for (const volume of facts.pod.spec?.volumes ?? []) {
    try {
      prepared.set(volume.name, await prepareVolume(volume, facts, deps));
    } catch (error) {
      throw failMount(`MountVolume.SetUp failed for volume "${volume.name}" : ${(error as Error).message}`);
    }
  }
  return prepared;
}

async function prepareVolume(volume: Volume, facts: PodFacts, deps: VolumeDeps): Promise<PreparedVolume> {
  const path = join(deps.podVolumesDir, volume.name);
  const files = volumeFiles(volume, facts, deps.source);
  if (files !== undefined) {
    writeAtomically(path, files, deps.nowMs);
    return { path, readOnly: true, files };
  }
  if (volume.hostPath)
    return { path: hostPath(volume.hostPath.path, volume.hostPath.type ?? ""), readOnly: false, files };
  if (volume.persistentVolumeClaim) {
    const { claimName, readOnly } = volume.persistentVolumeClaim;
    const claimed = await claimPath(claimName, facts.pod.metadata.namespace ?? "default", deps);
    return { path: claimed, readOnly: readOnly ?? false, files };
  }
  const kinds = Object.keys(volume).filter((key) => key !== "name");
  if (volume.emptyDir || kinds.length === 0) {
    mkdirSync(path, { recursive: true });
    chmodSync(path, 0o777);
    return { path, readOnly: false, files };
  }
  throw failMount(`volume type ${kinds.join(", ")} is not supported by meshbed`);
}

/** Writes again the volumes whose API objects changed; a volume whose objects are gone keeps its last content. */
export function refreshVolumes(prepared: PreparedVolumes, facts: PodFacts, source: ConfigSource, nowMs: number): void {
  for (const volume of facts.pod.spec?.volumes ?? []) {
    const known = prepared.get(volume.name);
    if (known?.files === undefined) continue;
    let files: VolumeFiles | undefined;
    try {
      files = volumeFiles(volume, facts, source);
    } catch {
      continue;
    }
    if (files === undefined || sameFiles(files, known.files)) continue;
    writeAtomically(known.path, files, nowMs);
    known.files = files;
  }
}

function hostPath(path: string, type: string): string {
  if (type === "DirectoryOrCreate") mkdirSync(path, { recursive: true, mode: 0o755 });
  else if (type === "FileOrCreate" && !existsSync(path)) closeSync(openSync(path, "a", 0o644));
  const found = existsSync(path) ? statSync(path) : undefined;
  if (found === undefined) {
    if (type !== "") throw failMount(`hostPath type check failed: ${path} does not exist`);
    mkdirSync(path, { recursive: true, mode: 0o755 }); // as container engines do for a missing source
    return path;
  }
  const fits: Record<string, boolean> = {
    Directory: found.isDirectory(),
    DirectoryOrCreate: found.isDirectory(),
    File: found.isFile(),
    FileOrCreate: found.isFile(),
    Socket: found.isSocket(),
    CharDevice: found.isCharacterDevice(),
    BlockDevice: found.isBlockDevice(),
  };
  if (type !== "" && fits[type] !== true) throw failMount(`hostPath type check failed: ${path} is not a ${type}`);
  return path;
}

async function claimPath(claimName: string, namespace: string, deps: VolumeDeps): Promise<string> {
  const claim = await deps.client.get(persistentVolumeClaims, namespace, claimName).catch((error) => {
    throw isNotFound(error) ? failMount(`persistentvolumeclaim "${claimName}" not found`) : error;
  });
  const volumeName = claim.spec?.volumeName;
  if (volumeName === undefined || volumeName === "" || claim.status?.phase !== "Bound")
    throw failMount(`persistentvolumeclaim "${claimName}" is not bound yet`);
  const volume = await deps.client.get(persistentVolumes, undefined, volumeName);
  const path = volume.spec?.hostPath?.path ?? volume.spec?.local?.path;
  if (path === undefined)
    throw failMount(`persistent volume "${volumeName}" is not a directory of this machine (hostPath or local)`);
  const folder = isAbsolute(path) ? path : join(deps.volumesDir, path);
  if (!existsSync(folder)) {
    mkdirSync(folder, { recursive: true });
    chmodSync(folder, 0o777);
  }
  return folder;
}

/** The mounts of one container. `env` serves subPathExpr. Throws MeshbedError CONTAINER_CONFIG. */
export function mountsOf(
  container: Pick<Container, "volumeMounts">,
  prepared: PreparedVolumes,
  env: Readonly<Record<string, string>>,
): Mount[] {
  return (container.volumeMounts ?? []).map((mount) => {
    const volume = prepared.get(mount.name);
    if (volume === undefined) throw new MeshbedError("CONTAINER_CONFIG", `volume "${mount.name}" not found in pod`);
    const subPath = mount.subPathExpr ? expand(mount.subPathExpr, (name) => env[name]) : mount.subPath;
    const source = subPath ? subPathOf(volume, subPath) : volume.path;
    return { source, target: mount.mountPath, readOnly: volume.readOnly || (mount.readOnly ?? false) };
  });
}

/** Created as a directory when missing. A link inside the volume must not lead out of it. */
function subPathOf(volume: PreparedVolume, subPath: string): string {
  const clean = normalize(subPath);
  if (isAbsolute(clean) || clean === ".." || clean.startsWith("../"))
    throw new MeshbedError("CONTAINER_CONFIG", `subPath ${JSON.stringify(subPath)} leaves its volume`);
  const path = join(volume.path, clean);
  if (!existsSync(path)) mkdirSync(path, { recursive: true });
  const [root, real] = [realpathSync(volume.path), realpathSync(path)];
  if (real !== root && !real.startsWith(`${root}/`))
    throw new MeshbedError("CONTAINER_CONFIG", `subPath ${JSON.stringify(subPath)} leaves its volume through a link`);
  return real;
}
