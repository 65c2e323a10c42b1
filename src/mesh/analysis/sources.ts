// Manifests as text → objects that know where each of their fields stands.

import { isMap, isPair, isScalar, isSeq, LineCounter, type Node, parseAllDocuments } from "yaml";
import type { Manifested } from "../offline.ts";

/** A place in a text; lines and columns start at 1. */
export interface Position {
  file: string;
  line: number;
  column: number;
  /** Characters to underline; at least 1. */
  length: number;
  /** The line's text. */
  text: string;
}

/** An object with its place. */
export interface Source {
  object: Manifested;
  /** Where the field stands, or the nearest parent that is there. */
  at(field: string): Position;
}

/** A text that is no manifest. */
export interface Unreadable {
  position: Position;
  message: string;
}

export interface ReadText {
  sources: Source[];
  unreadable: Unreadable[];
}

/** Documents without apiVersion and kind are passed over when `lenient`: a folder may hold other YAML files. */
export function readText(text: string, file: string, lenient = false): ReadText {
  const lineCounter = new LineCounter();
  const lines = text.split("\n");
  const place = (offset: number, length = 1): Position => {
    const { line, col } = lineCounter.linePos(offset);
    return { file, line, column: col, length: Math.max(1, length), text: lines[line - 1] ?? "" };
  };
  const result: ReadText = { sources: [], unreadable: [] };
  for (const document of parseAllDocuments(text, { lineCounter })) {
    const broken = document.errors[0];
    if (broken !== undefined) {
      const message = broken.message.split("\n")[0]!.replace(/ at line \d+.*$/, "");
      result.unreadable.push({ position: place(broken.pos[0]), message });
      continue;
    }
    const root = document.contents as Node | null;
    if (root === null) continue;
    for (const node of listed(root)) {
      const object = node.toJS(document) as Manifested | null;
      const problem = problemOf(object);
      if (problem === undefined) result.sources.push({ object: object!, at: (field) => find(node, field, place) });
      else if (object !== null && !(lenient && !looksMeant(object)))
        result.unreadable.push({ position: find(node, "", place), message: problem });
    }
  }
  return result;
}

/** The items of a List, else the document itself. */
function listed(root: Node): Node[] {
  if (!isMap(root) || !/^([A-Z]\w*)?List$/.test(String(root.get("kind")))) return [root];
  const items = root.get("items", true) as unknown;
  return isSeq(items) ? (items.items as Node[]) : [root];
}

function problemOf(object: Manifested | null): string | undefined {
  if (typeof object !== "object" || object === null || Array.isArray(object)) return "is no Kubernetes object";
  for (const field of ["apiVersion", "kind"] as const)
    if (typeof object[field] !== "string") return `'${field}' is missing: this is no Kubernetes object`;
  const name: unknown = object.metadata?.name;
  return typeof name === "string" && name !== "" ? undefined : "'metadata.name' is missing";
}

const looksMeant = (object: Manifested): boolean =>
  typeof object === "object" && ("apiVersion" in object || "kind" in object);

/** `spec.http[0].match[1].uri` as steps; keys of maps may stand in brackets: `labels[a.b/c]`. */
export function stepsOf(field: string): string[] {
  const steps: string[] = [];
  for (const [, bracket, name] of field.matchAll(/\[([^\]]*)\]|([^.[\]]+)/g)) steps.push(bracket ?? name!);
  return steps;
}

/** The value of the deepest step that is there; for a missing one, the key of its parent. */
function find(root: Node, field: string, place: (offset: number, length: number) => Position): Position {
  let node: Node = root;
  let key: Node | undefined;
  const steps = stepsOf(field);
  for (let i = 0; i < steps.length; ) {
    const step = stepInto(node, steps, i);
    if (step === undefined) break;
    ({ node, key } = step);
    i = step.next;
  }
  // A nested block is best shown by its name.
  const shown = isScalar(node) || key === undefined ? node : key;
  const [start = 0, end = start] = shown.range ?? [0, 0];
  return place(start, isScalar(shown) ? end - start : 1);
}

function stepInto(
  node: Node,
  steps: readonly string[],
  index: number,
): { node: Node; key: Node | undefined; next: number } | undefined {
  if (isSeq(node)) {
    const item = node.items[Number(steps[index])] as Node | undefined;
    return item ? { node: item, key: undefined, next: index + 1 } : undefined;
  }
  if (!isMap(node)) return undefined;
  // A key with dots may have been written without brackets: the longest that fits.
  for (let end = steps.length; end > index; end--) {
    const name = steps.slice(index, end).join(".");
    const pair = node.items.find((each) => isPair(each) && isScalar(each.key) && String(each.key.value) === name);
    if (pair !== undefined) return { node: (pair.value ?? pair.key) as Node, key: pair.key as Node, next: end };
  }
  return undefined;
}
