// Reads manifests from files and folders, and applies them as `kubectl apply` would, in the order given.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { LineCounter, parseAllDocuments } from "yaml";
import type { KubeObject, ObjectMeta } from "../api/object.ts";
import type { Resource } from "../api/resources.ts";
import type { Client } from "../client/types.ts";
import { MeshbedError, messageOf } from "../kernel/errors.ts";

const filesMax = 1_000;
const fileSizeBytesMax = 8 * 1024 * 1024;

/** An object as written in a file. */
export interface ManifestObject {
  apiVersion: string;
  kind: string;
  metadata: Partial<ObjectMeta>;
  [field: string]: unknown;
}

export interface Manifest {
  /** "testbed/20-web.yaml:12" */
  source: string;
  object: ManifestObject;
}

/** YAML and JSON files under `path` (not deeper), sorted; or `path` itself. Throws MANIFEST_NOT_FOUND. */
export function manifestFiles(path: string): string[] {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat)
    throw new MeshbedError("MANIFEST_NOT_FOUND", `${path}: no such file or folder`, {
      fix: "give -f a file or folder with Kubernetes manifests",
    });
  if (stat.isFile()) return [path];
  const files = readdirSync(path).filter(
    (name) => /\.(ya?ml|json)$/.test(name) && !/^(kustomization|meshbed)\./.test(name),
  );
  if (files.length === 0 || files.length > filesMax)
    throw new MeshbedError("MANIFEST_NOT_FOUND", `${path}: ${files.length} manifests in this folder`, {
      fix: `a folder given to -f holds 1 to ${filesMax} .yaml, .yml or .json files`,
    });
  return files.sort().map((name) => join(path, name));
}

/** The objects in one file; List objects are flattened. Throws MANIFEST_INVALID with file and line. */
export function readManifests(file: string): Manifest[] {
  const size = statSync(file).size;
  if (size > fileSizeBytesMax)
    throw new MeshbedError("MANIFEST_INVALID", `${file}: ${size} bytes, at most ${fileSizeBytesMax}`);
  return parseManifests(readFileSync(file, "utf8"), file);
}

export function parseManifests(text: string, file: string): Manifest[] {
  const lineCounter = new LineCounter();
  const manifests: Manifest[] = [];
  for (const document of parseAllDocuments(text, { lineCounter })) {
    const lineOf = (offset: number) => lineCounter.linePos(offset).line;
    const broken = document.errors[0];
    if (broken)
      throw new MeshbedError("MANIFEST_INVALID", `${file}:${lineOf(broken.pos[0])}: ${broken.message.split("\n")[0]}`);
    const value = document.toJS() as (ManifestObject & { items?: ManifestObject[] }) | null;
    if (value === null) continue;
    const source = `${file}:${lineOf(document.contents?.range?.[0] ?? 0)}`;
    for (const object of value.kind === "List" ? (value.items ?? []) : [value]) {
      for (const field of ["apiVersion", "kind"] as const)
        if (typeof object?.[field] !== "string")
          throw new MeshbedError("MANIFEST_INVALID", `${source}: '${field}' is missing`);
      if (typeof object.metadata?.name !== "string")
        throw new MeshbedError("MANIFEST_INVALID", `${source}: 'metadata.name' is missing (${object.kind})`);
      manifests.push({ source, object });
    }
  }
  return manifests;
}

const lastApplied = "kubectl.kubernetes.io/last-applied-configuration";
/** Hash of the manifest an object was last applied from by `meshbed up`. */
const appliedHash = "meshbed.io/applied-manifest";

const hashOf = (object: ManifestObject): string => Bun.hash(JSON.stringify(object)).toString(16);

function withLastApplied(object: ManifestObject): ManifestObject {
  const applied = { [lastApplied]: `${JSON.stringify(object)}\n`, [appliedHash]: hashOf(object) };
  const annotations = { ...object.metadata.annotations, ...applied };
  return { ...object, metadata: { ...object.metadata, annotations } };
}

export type Applied = "created" | "configured" | "unchanged";

/**
 * Creates one object, or merges it when its manifest has changed since the last start: what a user changed in the running
 * cluster meanwhile stays. Throws MANIFEST_REFUSED naming the manifest's place and the server's reason.
 */
export async function applyManifest(
  client: Client,
  manifest: Manifest,
  resourceOf: (apiVersion: string, kind: string) => Resource<KubeObject> | undefined,
): Promise<Applied> {
  const { apiVersion, kind, metadata } = manifest.object;
  const resource = resourceOf(apiVersion, kind);
  if (!resource)
    throw new MeshbedError(
      "MANIFEST_REFUSED",
      `${manifest.source}: no matches for kind "${kind}" in version "${apiVersion}"`,
      {
        fix: "see `kubectl api-resources` for the kinds this cluster serves",
      },
    );
  const namespace = resource.namespaced ? (metadata.namespace ?? "default") : undefined;
  const object = withLastApplied({
    ...manifest.object,
    metadata: namespace === undefined ? metadata : { ...metadata, namespace },
  });
  try {
    await client.create(resource, object);
    return "created";
  } catch (error) {
    if ((error as { reason?: string }).reason !== "AlreadyExists") throw refusal(manifest, error);
  }
  try {
    const current = await client.get(resource, namespace, metadata.name as string);
    if (current.metadata.annotations?.[appliedHash] === object.metadata.annotations?.[appliedHash]) return "unchanged";
    await client.patch(resource, namespace, metadata.name as string, object, { type: "merge" });
    return "configured";
  } catch (error) {
    throw refusal(manifest, error);
  }
}

function refusal(manifest: Manifest, error: unknown): MeshbedError {
  const { kind, metadata } = manifest.object;
  const message = `${manifest.source}: ${kind} ${metadata.name}: ${messageOf(error)}`;
  return new MeshbedError("MANIFEST_REFUSED", message, { cause: error });
}
