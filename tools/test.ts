// `npm test`: runs every test, says what was skipped and why, and closes with one line a machine can read.
import { join } from "node:path";

const root = join(import.meta.dir, "..");
const args = process.argv.slice(2);
// Most tests wait most of the time: two files at once halve it. More would disturb those that count milliseconds.
const run = Bun.spawn([process.execPath, "test", "--timeout", "60000", "--parallel=2", ...args], {
  cwd: root,
  stdout: "inherit",
  stderr: "pipe",
  env: { ...process.env, FORCE_COLOR: process.stdout.isTTY ? "1" : "0" },
});
let tail = "";
for await (const chunk of run.stderr) {
  process.stderr.write(chunk);
  tail = (tail + Buffer.from(chunk).toString()).slice(-4096);
}
const code = await run.exited;
const count = (word: string): number | undefined => {
  const match = [...Bun.stripANSI(tail).matchAll(new RegExp(`^ *(\\d+) ${word}$`, "gm"))].at(-1);
  return match ? Number(match[1]) : undefined;
};
const passed = count("pass");
const failed = count("fail");
const skipped = count("skip") ?? 0;
if (passed === undefined || failed === undefined) {
  console.log("the test run ended before its summary: a test ended the process");
  console.log("0 passed, 1 failed");
  process.exit(1);
}
if (process.env["CI"] && skipped > 0)
  console.log(`${skipped} tests were skipped here; the lines above say what is missing`);
// A failure outside any test (an import that throws) shows only in the exit code.
const failures = code !== 0 && failed === 0 ? 1 : failed;
console.log(`${passed} passed, ${failures} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
process.exit(failures === 0 && passed > 0 ? 0 : 1);
