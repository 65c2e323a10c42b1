// What is wrong with the volumes of a pod (pkg/apis/core/validation ValidateVolumes).

import { child, duplicate, forbidden, inRange, invalid, oneOf, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { configKeyProblem, dnsLabelProblem } from "../names.ts";
import { isQuantity, quantityRule } from "../quantity.ts";
import type { PodSpec } from "./pod-defaults.ts";

type Volume = NonNullable<PodSpec["volumes"]>[number];
interface Item {
  key: string;
  path: string;
  mode?: number;
}

const fileModeMax = 0o777;

/** A file's place inside a volume: relative and without a way out. */
function validateFilePath(path: string | undefined, at: string): FieldError[] {
  if (!path) return [required(at)];
  if (path.startsWith("/")) return [invalid(at, path, "must be a relative path")];
  if (path.split("/").includes("..")) return [invalid(at, path, "must not contain '..'")];
  if (path.startsWith("..")) return [invalid(at, path, "must not start with '..'")];
  return [];
}

function validateItems(items: readonly Item[] | undefined, mode: number | undefined, at: string): FieldError[] {
  const errors = inRange(child(at, "defaultMode"), mode, 0, fileModeMax);
  items?.forEach((item, i) => {
    const here = child(at, "items", i);
    const problem = item.key ? configKeyProblem(item.key) : undefined;
    if (!item.key) errors.push(required(child(here, "key")));
    else if (problem !== undefined) errors.push(invalid(child(here, "key"), item.key, problem));
    errors.push(...validateFilePath(item.path, child(here, "path")));
    errors.push(...inRange(child(here, "mode"), item.mode, 0, fileModeMax));
  });
  return errors;
}

function validateDownward(volume: NonNullable<Volume["downwardAPI"]>, at: string): FieldError[] {
  const errors = inRange(child(at, "defaultMode"), volume.defaultMode, 0, fileModeMax);
  volume.items?.forEach((item, i) => {
    const here = child(at, "items", i);
    errors.push(...validateFilePath(item.path, child(here, "path")));
    if (item.fieldRef === undefined && item.resourceFieldRef === undefined)
      errors.push(required(child(here, "fieldRef"), "one of fieldRef and resourceFieldRef is required"));
    if (item.fieldRef !== undefined && item.resourceFieldRef !== undefined)
      errors.push(invalid(here, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"));
  });
  return errors;
}

function validateProjected(volume: NonNullable<Volume["projected"]>, at: string): FieldError[] {
  const errors = inRange(child(at, "defaultMode"), volume.defaultMode, 0, fileModeMax);
  volume.sources?.forEach((source, i) => {
    const here = child(at, "sources", i);
    const names = Object.keys(source);
    if (names.length > 1) errors.push(forbidden(here, "may not specify more than 1 volume type per source"));
    for (const name of ["configMap", "secret"] as const)
      if (source[name] !== undefined) {
        if (!source[name].name) errors.push(required(child(here, name, "name")));
        errors.push(...validateItems(source[name].items, undefined, child(here, name)));
      }
    if (source.downwardAPI !== undefined)
      errors.push(...validateDownward(source.downwardAPI, child(here, "downwardAPI")));
    if (source.serviceAccountToken !== undefined)
      errors.push(...validateFilePath(source.serviceAccountToken.path, child(here, "serviceAccountToken", "path")));
  });
  return errors;
}

function validateSource(volume: Volume, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const sources = Object.keys(volume).filter((field) => field !== "name");
  if (sources.length === 0) errors.push(required(path, "must specify a volume type"));
  for (const extra of sources.slice(1))
    errors.push(forbidden(child(path, extra), "may not specify more than 1 volume type"));
  const { configMap, secret, hostPath, persistentVolumeClaim, emptyDir, downwardAPI, projected } = volume;
  if (configMap !== undefined) {
    if (!configMap.name) errors.push(required(child(path, "configMap", "name")));
    errors.push(...validateItems(configMap.items, configMap.defaultMode, child(path, "configMap")));
  }
  if (secret !== undefined) {
    if (!secret.secretName) errors.push(required(child(path, "secret", "secretName")));
    errors.push(...validateItems(secret.items, secret.defaultMode, child(path, "secret")));
  }
  if (hostPath !== undefined) {
    const at = child(path, "hostPath");
    if (!hostPath.path) errors.push(required(child(at, "path")));
    else if (hostPath.path.split("/").includes(".."))
      errors.push(invalid(child(at, "path"), hostPath.path, "must not contain '..'"));
    const types = ["DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];
    errors.push(...oneOf(child(at, "type"), hostPath.type, types));
  }
  if (persistentVolumeClaim !== undefined && !persistentVolumeClaim.claimName)
    errors.push(required(child(path, "persistentVolumeClaim", "claimName")));
  if (emptyDir?.sizeLimit !== undefined && !isQuantity(emptyDir.sizeLimit))
    errors.push(invalid(child(path, "emptyDir", "sizeLimit"), emptyDir.sizeLimit, quantityRule));
  if (downwardAPI !== undefined) errors.push(...validateDownward(downwardAPI, child(path, "downwardAPI")));
  if (projected !== undefined) errors.push(...validateProjected(projected, child(path, "projected")));
  return errors;
}

export function validateVolumes(volumes: readonly Volume[] | undefined, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const names = new Set<string>();
  volumes?.forEach((volume, i) => {
    const at = child(path, i);
    if (!volume.name) errors.push(required(child(at, "name")));
    else {
      const problem = dnsLabelProblem(volume.name);
      if (problem !== undefined) errors.push(invalid(child(at, "name"), volume.name, problem));
      if (names.has(volume.name)) errors.push(duplicate(child(at, "name"), volume.name));
      names.add(volume.name);
    }
    errors.push(...validateSource(volume, at));
  });
  return errors;
}
