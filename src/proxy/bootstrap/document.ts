// A configuration file, YAML or JSON (which is YAML), as a plain value that knows the line of each of its fields.

import { isAlias, isMap, isNode, isScalar, isSeq, LineCounter, type Node, type Pair, parseDocument } from "yaml";

/** Keys and list indices from the file's root. */
export type FieldPath = readonly (string | number)[];

export interface Problem {
  path: FieldPath;
  message: string;
  fix?: string;
}

export interface ConfigDocument {
  value: unknown;
  /** "line:column" of a field's key (of a list, its item), or of the nearest enclosing one that is there. */
  position(path: FieldPath): string;
}

/** Aliases expand to at most this many nodes: a file cannot grow without bound. */
const aliasesMax = 1_000;

/** Mistakes of the syntax are problems without a path; then there is no document. */
export function parseDocumentText(text: string): {
  document?: ConfigDocument;
  problems: { at: string; message: string }[];
} {
  const lines = new LineCounter();
  const parsed = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${line}:${col}`;
  };
  if (parsed.errors.length > 0)
    return {
      problems: parsed.errors.map(({ pos, message }) => ({ at: at(pos[0]), message: message.split("\n")[0]! })),
    };
  let value: unknown;
  try {
    value = parsed.toJS({ maxAliasCount: aliasesMax });
  } catch (error) {
    return { problems: [{ at: "1:1", message: (error as Error).message }] };
  }
  const position = (path: FieldPath): string => {
    let node: Node | null = parsed.contents;
    let offset = node?.range?.[0] ?? 0;
    for (const key of path) {
      if (isAlias(node)) node = node.resolve(parsed) ?? null;
      const next = child(node, key);
      if (next === undefined) break;
      offset = next.offset ?? offset;
      node = next.node;
    }
    return at(offset);
  };
  return { document: { value, position }, problems: [] };
}

function child(node: Node | null, key: string | number): { node: Node | null; offset: number | undefined } | undefined {
  if (isMap(node)) {
    const pair: Pair | undefined = node.items.find(
      (item) => isScalar(item.key) && String(item.key.value) === String(key),
    );
    if (pair === undefined) return undefined;
    return { node: isNode(pair.value) ? pair.value : null, offset: isNode(pair.key) ? pair.key.range?.[0] : undefined };
  }
  if (isSeq(node) && typeof key === "number") {
    const item = node.items[key];
    return isNode(item) ? { node: item, offset: item.range?.[0] } : undefined;
  }
  return undefined;
}
