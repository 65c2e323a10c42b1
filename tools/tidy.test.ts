// The project is tidy, and the check finds what it is there to find.
import { expect, test } from "bun:test";
import { join } from "node:path";
import { projectFiles, tidyProblems } from "./tidy.ts";

const root = join(import.meta.dir, "..");
const file = (path: string, body: string) => ({ path, text: `// job\n${body}` });

test("the project keeps its own floor plan, sizes and habits", () => {
  expect(tidyProblems(projectFiles(root))).toEqual([]);
});

test("a forbidden import, a cycle, a dead file, a bare timer and a long file are each reported", () => {
  const problems = tidyProblems([
    file("src/main.ts", 'import "./proxy/a.ts"; import "./wire/long.ts";'),
    file("src/proxy/a.ts", 'import { b } from "../api/b.ts"; setTimeout(b, 1);'),
    file("src/api/b.ts", 'export { c } from "./c.ts";'),
    file("src/api/c.ts", 'export { b } from "./b.ts";'),
    file("src/kernel/dead.ts", ""),
    file("src/wire/long.ts", "\n".repeat(600)),
    file("apps/x/main.test.ts", 'import "../../src/main.ts"; process.exit(0);'),
  ]).join("\n");
  for (const expected of [
    "room 'proxy' may not import 'api'",
    "import cycle: src/api/b.ts → src/api/c.ts → src/api/b.ts",
    "src/kernel/dead.ts: nothing imports this file",
    "setTimeout (use clock.after",
    "src/wire/long.ts: 602 lines",
    "an app is a tenant",
    "process.exit ends a test run green",
  ])
    expect(problems).toContain(expected);
});

test("types and format are clean", async () => {
  for (const argv of [["node_modules/.bin/tsc"], ["node_modules/.bin/biome", "check", "--error-on-warnings"]]) {
    const check = Bun.spawn([join(root, argv[0]!), ...argv.slice(1)], { cwd: root, stdout: "pipe", stderr: "pipe" });
    const output = (await new Response(check.stdout).text()) + (await new Response(check.stderr).text());
    expect({ argv, code: await check.exited, output: (await check.exited) === 0 ? "" : output }).toEqual({
      argv,
      code: 0,
      output: "",
    });
  }
}, 120_000);
