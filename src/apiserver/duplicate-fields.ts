// Finds names that occur twice in one object of a JSON text, which JSON.parse passes over in silence.

interface Frame {
  /** Names seen; undefined in an array. */
  names: Set<string> | undefined;
  path: string;
  index: number;
  /** The name whose value is next. */
  name: string;
}

const syntax = /"((?:[^"\\]|\\.)*)"|[{}[\],:]|[^\s"{}[\],:]+/g;

const pathIn = (frame: Frame | undefined): string => {
  if (frame === undefined) return "";
  if (frame.names === undefined) return `${frame.path}[${frame.index}]`;
  return frame.path === "" ? frame.name : `${frame.path}.${frame.name}`;
};

/** Paths of duplicate names in order; empty for a text that is not a JSON object. */
export function duplicateFields(text: string): string[] {
  const duplicates: string[] = [];
  if (!/^\s*\{/.test(text)) return duplicates;
  const frames: Frame[] = [];
  let expectsName = false;
  for (const [token, string] of text.matchAll(syntax)) {
    const frame = frames[frames.length - 1];
    switch (token) {
      case "{":
        frames.push({ names: new Set(), path: pathIn(frame), index: 0, name: "" });
        expectsName = true;
        break;
      case "[":
        frames.push({ names: undefined, path: pathIn(frame), index: 0, name: "" });
        expectsName = false;
        break;
      case "}":
      case "]":
        frames.pop();
        expectsName = false;
        break;
      case ",":
        if (frame?.names !== undefined) expectsName = true;
        else if (frame !== undefined) frame.index++;
        break;
      case ":":
        expectsName = false;
        break;
      default:
        if (!expectsName || string === undefined || frame?.names === undefined) break;
        frame.name = string.includes("\\") ? String(JSON.parse(`"${string}"`)) : string;
        if (frame.names.has(frame.name)) duplicates.push(pathIn(frame));
        frame.names.add(frame.name);
    }
  }
  return duplicates;
}
