// Joins meshbed's sources into few files: a dozen processes start at once, and a bundle halves what each has to load and hold.

import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { MeshbedError } from "../kernel/errors.ts";

/** Older bundles may still be in use by a running testbed. */
const bundlesKeptMax = 4;

/** Changes whenever a source, a generated file or a dependency does. */
function sourceStamp(projectRoot: string): string {
  const hash = new Bun.CryptoHasher("sha256");
  const files = ["package-lock.json"];
  for (const folder of ["src", "gen/xds"])
    for (const path of new Bun.Glob(`${folder}/**/*.{ts,js,json}`).scanSync({ cwd: projectRoot })) files.push(path);
  for (const path of files.sort()) {
    const stat = statSync(join(projectRoot, path), { throwIfNoEntry: false });
    if (stat && !path.endsWith(".test.ts") && !path.endsWith(".d.ts"))
      hash.update(`${path} ${stat.mtimeMs} ${stat.size}\n`);
  }
  return hash.digest("hex").slice(0, 16);
}

function removeOld(dist: string, keep: string): void {
  const folders = readdirSync(dist).filter((name) => name !== keep);
  const byAge = folders.map((name) => ({ name, ms: statSync(join(dist, name)).mtimeMs })).sort((a, b) => b.ms - a.ms);
  for (const { name } of byAge.slice(bundlesKeptMax - 1)) rmSync(join(dist, name), { recursive: true, force: true });
}

/**
 * Path of the file to start inner processes with: the bundle of exactly these sources, built when it is missing.
 * Falls back to the sources where the project folder cannot be written. Throws BUNDLE_FAILED when a source does not compile.
 */
export async function mainBundle(projectRoot: string): Promise<string> {
  const dist = join(projectRoot, "dist");
  const stamp = sourceStamp(projectRoot);
  const main = join(dist, stamp, "main.js");
  if (existsSync(main)) return main;
  const result = await Bun.build({
    entrypoints: [join(projectRoot, "src/main.ts")],
    target: "bun",
    splitting: true,
    minify: { whitespace: true, syntax: true },
    throw: false,
  });
  if (!result.success)
    throw new MeshbedError("BUNDLE_FAILED", `the sources do not compile: ${result.logs[0]}`, { fix: "npm run lint" });
  try {
    await Bun.write(join(dist, ".keep"), "");
    const building = mkdtempSync(join(dist, ".building-"));
    await Promise.all(result.outputs.map((output) => Bun.write(join(building, output.path), output)));
    try {
      renameSync(building, join(dist, stamp));
    } catch {
      // Another start was faster.
      rmSync(building, { recursive: true, force: true });
    }
    removeOld(dist, stamp);
    return main;
  } catch {
    return join(projectRoot, "src/main.ts");
  }
}
