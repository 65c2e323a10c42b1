// `meshbed explain` and `meshbed test` as a person runs them: the examples of their help, and a running testbed.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { root, run, startTestbed, type Testbed, until } from "./testbed.ts";

const meshbed = (...args: string[]) => run([process.execPath, join(root, "src/main.ts"), ...args], { cwd: root });

/** Lines of a verb's help that are commands without a testbed. */
async function examplesOf(verb: string): Promise<string[][]> {
  const { stdout } = await meshbed(verb, "--help");
  const lines = stdout.split("\n").map((line) => line.trim());
  const examples = lines.filter((line) => line.startsWith(`meshbed ${verb} `) && / (-f|examples\/)/.test(line));
  return examples.map((line) => line.split(" ").slice(1));
}

describe("without a testbed", () => {
  for (const verb of ["explain", "test"])
    test(`the examples of ${verb} --help work when pasted`, async () => {
      const examples = await examplesOf(verb);
      expect(examples.length).toBeGreaterThan(1);
      for (const args of examples) {
        const { code, stderr } = await meshbed(...args);
        expect(`${args.join(" ")}: ${code} ${stderr}`).toBe(`${args.join(" ")}: 0 `);
      }
    });
});

describe("with a testbed", () => {
  let testbed: Testbed;
  beforeAll(async () => {
    testbed = await startTestbed();
    await until("the site answers", 20_000, async () => (await fetch(testbed.url)).ok);
  }, 60_000);
  afterAll(() => testbed?.down());

  test("what is sent from outside and from a pod comes out as predicted", async () => {
    for (const args of [
      ["GET", `${testbed.url}/`],
      ["GET", `${testbed.url}/metrics`],
      ["GET", "http://web/", "--from", "cache"],
    ]) {
      const { code, stdout, stderr } = await testbed.meshbed("explain", ...args, "--send");
      expect(stdout + stderr).toContain("✓ as predicted");
      expect(code).toBe(0);
    }
  }, 30_000);

  test("objects of the testbed are named by kind and field", async () => {
    const { stdout } = await testbed.meshbed("explain", "POST", `${testbed.url}/upload`);
    expect(stdout).toContain("VirtualService video/video spec.http[1].match[0]");
  });
});
