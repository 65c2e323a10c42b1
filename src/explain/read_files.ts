// Manifests as text → objects as an API server would hold them, with the place of every field.

import { type Document, isCollection, isNode, LineCounter, parseAllDocuments } from "yaml";
import { allKinds } from "../api/kinds/all.ts";
import { groupOf, type KubeObject } from "../api/object.ts";
import { MeshbedError } from "../kernel/errors.ts";
import type { ObjectRef, Places } from "./types.ts";

export interface ManifestText {
  /** As the user named it. */
  file: string;
  text: string;
}

interface Written {
  file: string;
  document: Document;
  lines: LineCounter;
  /** Of the object within the document: ["items", 3] in a List. */
  prefix: readonly (string | number)[];
}

export interface ReadObjects {
  objects: KubeObject[];
  places: Places;
  /** Problems that the API server would refuse an object for; it is left out. */
  problems: string[];
}

const objectsMax = 20_000;
/** Files carry no time: what is written first counts as older only by name, as among objects applied within one second. */
const someTime = "2026-01-01T00:00:00Z";

/** Throws MANIFEST_INVALID with file and line. */
export function readObjects(texts: readonly ManifestText[]): ReadObjects {
  // What comes later replaces what came before of the same name, as when one file is applied after the other.
  const objects = new Map<string, KubeObject>();
  const problems: string[] = [];
  const written = new Map<string, Written>();
  const places: Places = { of: (object, field) => placeOf(written.get(keyOf(object)), object, field) };
  for (const { file, text } of texts) {
    const lines = new LineCounter();
    for (const document of parseAllDocuments(text, { lineCounter: lines }) as Document[]) {
      const broken = document.errors[0];
      if (broken)
        throw new MeshbedError(
          "MANIFEST_INVALID",
          `${file}:${lines.linePos(broken.pos[0]).line}: ${broken.message.split("\n")[0]}`,
        );
      const value = document.toJS() as (KubeObject & { items?: KubeObject[] }) | null;
      const isList = value?.kind === "List";
      const list = isList ? (value.items ?? []) : value === null ? [] : [value];
      for (const [index, raw] of list.entries()) {
        if (objects.size >= objectsMax)
          throw new MeshbedError("MANIFEST_INVALID", `${file}: more than ${objectsMax} objects`);
        const at: Written = { file, document, lines, prefix: isList ? ["items", index] : [] };
        const object = normalised(raw, placeOf(at, raw));
        const key = keyOf(object);
        const problem = complete(object);
        if (problem === undefined) {
          objects.set(key, object);
          written.set(key, at);
        } else
          problems.push(
            `${placeOf(at, object, problem.field)}: ${object.kind} ${object.metadata.name} would be refused: ${problem.field}: ${problem.message}`,
          );
      }
    }
  }
  return { objects: [...objects.values()], places, problems };
}

/** Kinds of one name in two API groups, as the Gateways of Istio and of the Gateway API, are two. */
const keyOf = ({ apiVersion, kind, metadata }: ObjectRef): string =>
  `${groupOf(apiVersion)} ${kind} ${metadata.namespace ?? ""}/${metadata.name}`;

function normalised(raw: KubeObject, at: string): KubeObject {
  for (const field of ["apiVersion", "kind"] as const)
    if (typeof raw?.[field] !== "string") throw new MeshbedError("MANIFEST_INVALID", `${at}: '${field}' is missing`);
  if (typeof raw.metadata?.name !== "string")
    throw new MeshbedError("MANIFEST_INVALID", `${at}: 'metadata.name' is missing (${raw.kind})`);
  const definition = definitionOf(raw);
  const { namespace, uid, creationTimestamp } = raw.metadata as Partial<KubeObject["metadata"]>;
  const metadata: KubeObject["metadata"] = {
    ...raw.metadata,
    uid: uid ?? `${raw.kind}/${namespace ?? ""}/${raw.metadata.name}`,
    creationTimestamp: creationTimestamp ?? someTime,
    resourceVersion: "1",
    ...((definition?.namespaced ?? true) && { namespace: namespace ?? "default" }),
  };
  return { ...raw, metadata };
}

const definitionOf = ({ apiVersion, kind }: KubeObject) =>
  allKinds.find((one) => one.kind === kind && one.group === groupOf(apiVersion));

/** Fills in what the API server would; the first thing it would refuse the object for. */
function complete(object: KubeObject): { field: string; message: string } | undefined {
  const definition = definitionOf(object);
  if (definition === undefined) return undefined;
  definition.applyDefaults(object);
  const [error] = definition.validate(object);
  return error;
}

/** The innermost field of the path that is written. */
function placeOf(written: Written | undefined, object: ObjectRef, field?: string): string {
  if (written === undefined) {
    const { namespace, name } = object.metadata;
    const key = namespace === undefined ? name : `${namespace}/${name}`;
    return [object.kind, key, field].filter(Boolean).join(" ");
  }
  const { file, document, lines, prefix } = written;
  const path = [...prefix, ...(field === undefined ? [] : pathOf(field))];
  for (let length = path.length; length >= 0; length--) {
    const node = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
    // A map's or list's own start is its first key, one line below the name: good enough for lists, as their items begin there.
    if (isNode(node) && node.range) return `${file}:${lines.linePos(node.range[0]).line}`;
    if (isCollection(node)) continue;
  }
  return file;
}

/** "spec.http[2].match[0]" → ["spec", "http", 2, "match", 0] */
export function pathOf(field: string): (string | number)[] {
  return [...field.matchAll(/([^.[\]]+)|\[(\d+)\]/g)].map(([, name, index]) => name ?? Number(index));
}
