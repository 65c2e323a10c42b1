// `bun run tidy`: floor plan, import cycles, dead files, sizes, and calls that belong to the kernel. Function length is Biome's.
import { readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { entryFiles, fileLinesMax, floorplan } from "./floorplan.ts";

export interface SourceFile {
  /** From the project's root, with forward slashes. */
  path: string;
  text: string;
}

const importPattern = /(?:\bfrom\s*|\bimport\s*\(?\s*)"(\.{1,2}\/[^"]+)"/g;

/** Project files a file imports, as paths from the root; type imports count too. */
export function importsOf(file: SourceFile): string[] {
  return [...file.text.matchAll(importPattern)].map((match) => join(dirname(file.path), match[1]!));
}

/** As importsOf, without imports of types alone: those are gone when the program runs. */
function runtimeImportsOf(file: SourceFile): string[] {
  return importsOf({ ...file, text: file.text.replace(/\b(import|export) type [^;]*?from\s*"[^"]+"/g, "") });
}

const roomOf = (path: string): string | undefined => /^src\/([^/]+)\//.exec(path)?.[1];

function floorplanProblems(files: readonly SourceFile[]): string[] {
  const problems: string[] = [];
  for (const file of files) {
    const room = roomOf(file.path);
    const isTest = file.path.endsWith(".test.ts");
    if (room !== undefined && floorplan[room] === undefined)
      problems.push(`${file.path}: no room '${room}' in the floor plan`);
    for (const target of importsOf(file)) {
      const targetRoom = roomOf(target);
      if (file.path.startsWith("apps/") && target.startsWith("src/"))
        problems.push(`${file.path}: an app is a tenant and imports nothing from src/, not ${target}`);
      // A test may wire real neighbours together instead of inventing doubles of them.
      if (isTest || room === undefined || targetRoom === undefined || targetRoom === room) continue;
      if (!floorplan[room]?.includes(targetRoom))
        problems.push(`${file.path}: room '${room}' may not import '${targetRoom}' (${target})`);
    }
  }
  return problems;
}

function cycleProblems(files: readonly SourceFile[]): string[] {
  const edges = new Map(files.map((file) => [file.path, runtimeImportsOf(file)]));
  const state = new Map<string, "open" | "done">();
  const problems: string[] = [];
  const trail: string[] = [];
  const visit = (path: string) => {
    if (state.get(path) === "done") return;
    if (state.get(path) === "open") {
      problems.push(`import cycle: ${[...trail.slice(trail.indexOf(path)), path].join(" → ")}`);
      return;
    }
    state.set(path, "open");
    trail.push(path);
    for (const target of edges.get(path) ?? []) visit(target);
    trail.pop();
    state.set(path, "done");
  };
  for (const path of edges.keys()) visit(path);
  return problems;
}

function deadFileProblems(files: readonly SourceFile[]): string[] {
  const imported = new Set(files.flatMap((file) => importsOf(file)));
  // Files named in strings (workers, child processes started by path) count as used.
  const named = files.map((file) => file.text).join("\n");
  return files
    .filter(({ path }) => /^(src|apps)\//.test(path) && !path.endsWith(".test.ts") && !path.includes("/public/"))
    .filter(
      ({ path }) => !imported.has(path) && !entryFiles.includes(path) && !named.includes(`${path.split("/").at(-1)}"`),
    )
    .map(({ path }) => `${path}: nothing imports this file`);
}

const kernelOnly: readonly [RegExp, string][] = [
  [/\bDate\.now\(/, "Date.now (take a Clock)"],
  [/\bMath\.random\(/, "Math.random (take a Random)"],
  [/(?<![.\w])setTimeout\(/, "setTimeout (use clock.after or clock.sleep)"],
  [/(?<![.\w])setInterval\(/, "setInterval (use clock.every)"],
];

function lineProblems(files: readonly SourceFile[]): string[] {
  const problems: string[] = [];
  for (const { path, text } of files) {
    const lines = text.split("\n");
    if (lines.length > fileLinesMax) problems.push(`${path}: ${lines.length} lines, at most ${fileLinesMax}`);
    const isTest = path.endsWith(".test.ts");
    if (!isTest && !/^(\/\/|#!|\/\*)/.test(lines[0] ?? ""))
      problems.push(`${path}:1: the first line must say the file's job in a comment`);
    lines.forEach((line, index) => {
      if (/^\s*(\/\/|\*)/.test(line)) return;
      if (isTest && !path.startsWith("tools/") && line.includes("process.exit("))
        problems.push(`${path}:${index + 1}: process.exit ends a test run green`);
      if (isTest || !path.startsWith("src/") || path.startsWith("src/kernel/")) return;
      for (const [pattern, name] of kernelOnly)
        if (pattern.test(line)) problems.push(`${path}:${index + 1}: ${name} lives in src/kernel only`);
    });
  }
  return problems;
}

/** Everything untidy in these files, one line each; empty when tidy. */
export function tidyProblems(files: readonly SourceFile[]): string[] {
  return [...floorplanProblems(files), ...cycleProblems(files), ...deadFileProblems(files), ...lineProblems(files)];
}

/** The project's TypeScript files. */
export function projectFiles(root: string): SourceFile[] {
  const files: SourceFile[] = [];
  for (const folder of ["src", "apps", "tools", "bench", "conformance", "examples"])
    for (const path of new Bun.Glob(`${folder}/**/*.{ts,tsx}`).scanSync({ cwd: root }))
      files.push({ path, text: readFileSync(join(root, path), "utf8") });
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

if (import.meta.main) {
  const root = join(import.meta.dir, "..");
  const files = projectFiles(root);
  const problems = tidyProblems(files);
  for (const problem of problems) console.error(problem);
  console.log(
    problems.length === 0
      ? `tidy: ${files.length} files in ${relative(process.cwd(), root) || "."}`
      : `tidy: ${problems.length} problems`,
  );
  process.exitCode = problems.length === 0 ? 0 : 1;
}
