// Run by npm after installing (under Node): makes sure Bun works, then builds what is generated.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const bun = join(root, "node_modules/bun/bin/bun.exe");
const run = (command, args) => spawnSync(command, args, { cwd: root, stdio: "inherit" }).status === 0;

const works = () => spawnSync(bun, ["--version"]).status === 0;
// With install scripts switched off, npm leaves a stub in Bun's place; its own installer repairs that.
if (!works() && !(run(process.execPath, [join(root, "node_modules/bun/install.js")]) && works())) {
  console.error("meshbed: Bun's binary for this platform is missing; run 'npm ci' again without --omit=optional");
  process.exit(1);
}
for (const script of ["tools/codegen.ts", "tools/openapi-gen.ts", "tools/bundle.ts"])
  if (!run(bun, [script])) process.exit(1);
