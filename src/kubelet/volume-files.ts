// What the files of configMap, secret, downwardAPI and projected volumes hold. Pure; atomic-writer.ts puts them on disk.

import type { Pod } from "../api/types.ts";
import { MeshbedError } from "../kernel/errors.ts";
import type { ConfigSource } from "./env.ts";
import { fieldValue, type PodFacts, resourceValue } from "./pod-fields.ts";

export interface VolumeFile {
  content: Uint8Array;
  /** Permission bits. */
  mode: number;
}
/** Relative path → file. */
export type VolumeFiles = Map<string, VolumeFile>;

export type Volume = NonNullable<NonNullable<Pod["spec"]>["volumes"]>[number];
type Projection = NonNullable<NonNullable<Volume["projected"]>["sources"]>[number];
type KeyToPath = { key: string; path: string; mode?: number };
type DownwardItem = NonNullable<NonNullable<Volume["downwardAPI"]>["items"]>[number];

const defaultMode = 0o644;
/** Kubernetes limits a ConfigMap or Secret to 1 MiB; a projection of many stays under this. */
const volumeBytesMax = 16 * 1024 * 1024;

const failMount = (message: string) => new MeshbedError("MOUNT", message);

/** Undefined when the volume is not made of files the API holds. Throws MeshbedError MOUNT when something required is missing. */
export function volumeFiles(volume: Volume, facts: PodFacts, source: ConfigSource): VolumeFiles | undefined {
  const files: VolumeFiles = new Map();
  if (volume.configMap) {
    const { name = "", items, optional, defaultMode: mode } = volume.configMap;
    addConfigMap(files, source, name, items, optional, mode ?? defaultMode);
  } else if (volume.secret) {
    const { secretName = "", items, optional, defaultMode: mode } = volume.secret;
    addSecret(files, source, secretName, items, optional, mode ?? defaultMode);
  } else if (volume.downwardAPI) {
    addDownward(files, facts, volume.downwardAPI.items ?? [], volume.downwardAPI.defaultMode ?? defaultMode);
  } else if (volume.projected) {
    const mode = volume.projected.defaultMode ?? defaultMode;
    for (const projection of volume.projected.sources ?? []) addProjection(files, projection, facts, source, mode);
  } else return undefined;
  let sizeBytes = 0;
  for (const { content } of files.values()) sizeBytes += content.length;
  if (sizeBytes > volumeBytesMax) throw failMount(`volume ${volume.name} holds more than ${volumeBytesMax} bytes`);
  return files;
}

function addProjection(
  files: VolumeFiles,
  projection: Projection,
  facts: PodFacts,
  source: ConfigSource,
  mode: number,
) {
  const { configMap, secret, downwardAPI, serviceAccountToken } = projection;
  if (configMap) addConfigMap(files, source, configMap.name ?? "", configMap.items, configMap.optional, mode);
  else if (secret) addSecret(files, source, secret.name ?? "", secret.items, secret.optional, mode);
  else if (downwardAPI) addDownward(files, facts, downwardAPI.items ?? [], mode);
  else if (serviceAccountToken) {
    // No tokens are issued here; the rest of a kube-api-access volume (CA, namespace) is still of use.
  } else throw failMount(`unsupported projection: ${Object.keys(projection).join(", ")}`);
}

function addConfigMap(
  files: VolumeFiles,
  source: ConfigSource,
  name: string,
  items: readonly KeyToPath[] | undefined,
  optional: boolean | undefined,
  mode: number,
): void {
  const found = source.configMap(name);
  if (found === undefined && !optional) throw failMount(`configmap "${name}" not found`);
  const data = new Map<string, Uint8Array>();
  for (const [key, value] of Object.entries(found?.data ?? {})) data.set(key, Buffer.from(String(value)));
  for (const [key, value] of Object.entries(found?.binaryData ?? {}))
    data.set(key, Buffer.from(String(value), "base64"));
  addKeys(files, data, `configmap "${name}"`, items, optional, mode);
}

function addSecret(
  files: VolumeFiles,
  source: ConfigSource,
  name: string,
  items: readonly KeyToPath[] | undefined,
  optional: boolean | undefined,
  mode: number,
): void {
  const found = source.secret(name);
  if (found === undefined && !optional) throw failMount(`secret "${name}" not found`);
  const data = new Map<string, Uint8Array>();
  for (const [key, value] of Object.entries(found?.data ?? {})) data.set(key, Buffer.from(String(value), "base64"));
  addKeys(files, data, `secret "${name}"`, items, optional, mode);
}

function addKeys(
  files: VolumeFiles,
  data: ReadonlyMap<string, Uint8Array>,
  what: string,
  items: readonly KeyToPath[] | undefined,
  optional: boolean | undefined,
  mode: number,
): void {
  if (items === undefined || items.length === 0) {
    for (const [key, content] of data) files.set(safePath(key), { content, mode });
    return;
  }
  for (const { key, path, mode: own } of items) {
    const content = data.get(key);
    if (content !== undefined) files.set(safePath(path), { content, mode: own ?? mode });
    else if (!optional) throw failMount(`references non-existent key ${key} in ${what}`);
  }
}

function addDownward(files: VolumeFiles, facts: PodFacts, items: readonly DownwardItem[], mode: number): void {
  for (const { path, fieldRef, resourceFieldRef, mode: own } of items) {
    const text = fieldRef
      ? fieldValue(facts, fieldRef.fieldPath)
      : resourceFieldRef
        ? resourceValue(facts, resourceFieldRef, undefined)
        : "";
    files.set(safePath(path), { content: Buffer.from(text), mode: own ?? mode });
  }
}

/** Refuses what would leave the volume or meet the writer's own entries ("..data"). */
function safePath(path: string): string {
  const parts = path.split("/");
  if (path === "" || path.startsWith("/") || parts.some((part) => part === "" || part === "." || part === ".."))
    throw failMount(`invalid path ${JSON.stringify(path)} in volume`);
  if (parts[0]!.startsWith("..")) throw failMount(`path ${JSON.stringify(path)} must not start with ".."`);
  return path;
}
