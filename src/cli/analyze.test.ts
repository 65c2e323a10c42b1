// The verb as a process: what it prints, and the exit codes that scripts go by.

import { expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dir, "../..");
const folder = mkdtempSync(join(tmpdir(), "meshbed-analyze-"));

async function run(args: string[], stdin = ""): Promise<{ code: number; out: string; err: string }> {
  const child = Bun.spawn([process.execPath, "src/main.ts", "analyze", ...args], {
    cwd: root,
    stdin: new Blob([stdin]),
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, NO_COLOR: "1" },
  });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, out, err };
}

const service = (port: string) =>
  `apiVersion: v1\nkind: Service\nmetadata: { name: web, namespace: shop }\nspec:\n  ports:\n    - { name: ${port}, port: 80 }\n`;

test("the bundled manifests have no issues", async () => {
  const { code, out } = await run(["testbed"]);
  expect([code, out]).toEqual([0, expect.stringMatching(/^✓ no issues found in \d+ files\n$/)]);
});

test("the example full of mistakes is explained, with place, quoted line and suggestion", async () => {
  const { code, out } = await run(["examples/analyze/mistakes.yaml"]);
  expect(code).toBe(79);
  expect(out).toContain(`✗ Error IST0101 VirtualService shop/cart: Referenced host not found: "crat"
  examples/analyze/mistakes.yaml:80:19  spec.http[0].route[0].destination.host
   80 │             host: crat
      │                   ^^^^
  fix: did you mean "cart"?`);
});

test("thresholds decide what fails and what is printed", async () => {
  expect((await run(["-"], service("odd"))).code).toBe(0);
  expect((await run(["-", "--failure-threshold", "Info"], service("odd"))).code).toBe(79);
  const quiet = await run(["-", "--output-threshold", "Warning"], service("odd"));
  expect(quiet.out).toBe("✓ no issues found in 1 file\n");
});

test("JSON has istioctl's fields, and the field, line and fix besides", async () => {
  const { out } = await run(["-", "-o", "json"], service("odd"));
  expect(JSON.parse(out)).toEqual([
    {
      code: "IST0118",
      name: "PortNameIsNotUnderNamingConvention",
      level: "Info",
      message: "Port name odd (port: 80, targetPort: 80) doesn't follow the naming convention of Istio port.",
      origin: "Service shop/web",
      reference: "stdin:6",
      field: "spec.ports[0].name",
      file: "stdin",
      line: 6,
      column: 15,
      fix: expect.any(String),
      documentationUrl: "https://istio.io/latest/docs/reference/config/analysis/ist0118/",
    },
  ]);
});

test("GitHub's annotations and SARIF point at the line", async () => {
  const github = await run(["-", "-o", "github"], service("odd"));
  expect(github.out).toStartWith(
    "::notice file=stdin,line=6,col=15,title=IST0118 PortNameIsNotUnderNamingConvention::Service shop/web",
  );
  const sarif = JSON.parse((await run(["-", "-o", "sarif"], service("odd"))).out);
  const [result] = sarif.runs[0].results;
  expect([result.ruleId, result.level]).toEqual(["IST0118", "note"]);
  expect(result.locations[0].physicalLocation.region).toEqual({ startLine: 6, startColumn: 15, endColumn: 18 });
});

test("a file that is no YAML ends with 65 and its line; folders below are read when asked for", async () => {
  mkdirSync(join(folder, "below"));
  writeFileSync(join(folder, "good.yaml"), service("http"));
  writeFileSync(join(folder, "below", "bad.yaml"), "apiVersion: v1\nkind: [\n");
  try {
    expect((await run([folder])).code).toBe(0);
    const { code, out } = await run(["-R", folder]);
    expect(code).toBe(65);
    expect(out).toContain("below/bad.yaml:3:1");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("a folder without manifests is no folder without issues", async () => {
  const { code, err } = await run(["examples"]);
  expect([code, err]).toEqual([1, expect.stringContaining("add -R to look into the folders below")]);
});

test("lists every code and why some of Istio's are never said", async () => {
  const { out } = await run(["--list"]);
  expect(out).toContain("IST0101");
  expect(out).toContain("MB0101");
  expect(out).toMatch(/IST0170\s+MultiClusterInconsistentService\s+there is one cluster/);
});
