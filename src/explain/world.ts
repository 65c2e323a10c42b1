// Builds the world an explanation is made from: out of files, or out of a list of objects as an API server gives them.

import { groupOf, type KubeObject } from "../api/object.ts";
import * as resources from "../api/resources.ts";
import { listOfConfigMap } from "../mesh/mesh-settings.ts";
import { completeCluster } from "../mesh/offline.ts";
import { noObjects } from "../mesh/translator.ts";
import type { MeshObjects } from "../mesh/types.ts";
import { assumedGateways } from "./assumed_gateways.ts";
import { type ManifestText, readObjects } from "./read_files.ts";
import type { Places, World } from "./types.ts";

type Lists = { -readonly [K in keyof MeshObjects]: KubeObject[] };

/** The kinds the mesh reads, by the name of their list. */
export const meshResources: readonly (readonly [keyof MeshObjects, resources.Resource])[] = Object.entries(resources)
  .filter(([name]) => name in noObjects)
  .map(([name, resource]) => [name as keyof MeshObjects, resource as resources.Resource]);

/** The ports `meshbed up` relays unless told otherwise. */
const usualPorts: ReadonlyMap<number, number> = new Map([
  [8080, 80],
  [8443, 443],
]);

/** Throws MANIFEST_INVALID. */
export function worldOfFiles(texts: readonly ManifestText[], nowMs: number): World {
  const { objects, places, problems } = readObjects(texts);
  const assumed = assumedGateways(objects);
  return {
    objects: meshObjects(completeCluster([...objects, ...assumed.objects])),
    places,
    offline: true,
    notes: [...problems, ...assumed.notes],
    relayedPorts: usualPorts,
    nowMs,
    mode: "namespaces",
  };
}

export function worldOfObjects(
  objects: readonly KubeObject[],
  places: Places,
  nowMs: number,
  relayedPorts: ReadonlyMap<number, number> = usualPorts,
): World {
  return { objects: meshObjects(objects), places, offline: false, notes: [], relayedPorts, nowMs, mode: "namespaces" };
}

/** Objects without files are named by kind, name and field. */
export const noFiles: Places = readObjects([]).places;

function meshObjects(objects: readonly KubeObject[]): MeshObjects {
  const lists = Object.fromEntries(Object.keys(noObjects).map((name) => [name, []])) as unknown as Lists;
  for (const object of objects) {
    const group = groupOf(object.apiVersion);
    const found = meshResources.find(([, one]) => one.kind === object.kind && one.group === group);
    if (found) lists[found[0] === "configMaps" ? listOfConfigMap(object.metadata) : found[0]].push(object);
  }
  return lists as unknown as MeshObjects;
}
