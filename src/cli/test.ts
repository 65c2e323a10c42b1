// `meshbed test`: unit tests of routes, without a cluster.

import { readFileSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { parseAllDocuments } from "yaml";
import { manifestFiles } from "../cluster/manifests.ts";
import { type Context, createContext } from "../explain/context.ts";
import { junit } from "../explain/junit.ts";
import { checkTest, type RouteTest, runRouteTest } from "../explain/route_tests.ts";
import type { CaseResult } from "../explain/test_types.ts";
import { runValidatorCase, type ValidatorCase, validatorContext } from "../explain/validator_tests.ts";
import { realClock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { filesWorld } from "./explain.ts";
import { formatMs, paint } from "./terminal.ts";

export interface TestOptions {
  file: string[];
  junit?: string;
  output?: "json";
}

interface TestFile {
  kind?: string;
  manifests?: string[];
  tests?: RouteTest[];
  testCases?: ValidatorCase[];
}

/** Throws TEST_INVALID, MANIFEST_INVALID. The exit code is 1 when a case fails. */
export async function test(paths: readonly string[], options: TestOptions): Promise<void> {
  const startedMs = realClock.monotonicMs();
  const results: CaseResult[] = [];
  for (const file of paths.flatMap(manifestFiles)) results.push(...(await runFile(file, options.file)));
  const failed = results.filter(({ failures }) => failures.length > 0);
  if (options.junit !== undefined) writeFileSync(options.junit, junit(results));
  if (options.output === "json") console.log(JSON.stringify(results, null, 2));
  else print(results, realClock.monotonicMs() - startedMs);
  if (failed.length > 0 || results.length === 0) process.exitCode = 1;
}

async function runFile(file: string, given: readonly string[]): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  for (const document of parseAllDocuments(readFileSync(file, "utf8"))) {
    const broken = document.errors[0];
    if (broken) throw new MeshbedError("TEST_INVALID", `${file}: ${broken.message.split("\n")[0]}`);
    const content = (document.toJS() ?? {}) as TestFile;
    if (!Array.isArray(content.tests) && !Array.isArray(content.testCases))
      throw new MeshbedError("TEST_INVALID", `${file}: neither 'tests' nor 'testCases'`, {
        fix: "see docs/testing-routes.md",
      });
    const manifests = [...(content.manifests ?? []).map((path) => resolve(dirname(file), path)), ...given];
    if (manifests.length === 0)
      throw new MeshbedError("TEST_INVALID", `${file}: no manifests to test`, {
        fix: "give them with -f, or name them under 'manifests'",
      });
    const world = filesWorld(manifests);
    const context = content.testCases ? validatorContext(world) : createContext(world);
    for (const one of content.tests ?? [])
      results.push(await timed(file, one?.name ?? "", () => ownCase(context, one, file)));
    for (const one of content.testCases ?? [])
      results.push(await timed(file, one.description ?? "", () => runValidatorCase(context, one, file)));
    context.close();
  }
  return results;
}

async function ownCase(context: Context, one: RouteTest, file: string) {
  checkTest(one, file);
  return { failures: await runRouteTest(context, one), requests: 1 };
}

async function timed(
  file: string,
  name: string,
  run: () => Promise<{ failures: string[]; requests: number }>,
): Promise<CaseResult> {
  const startedMs = realClock.monotonicMs();
  const { failures, requests } = await run();
  return { file, name, failures, requests, durationMs: realClock.monotonicMs() - startedMs };
}

function print(results: readonly CaseResult[], durationMs: number): void {
  for (const { name, failures, file } of results) {
    console.log(
      `${failures.length === 0 ? paint.green("✓") : paint.red("✗")} ${name}${failures.length === 0 ? "" : paint.dim(`  ${file}`)}`,
    );
    for (const failure of failures) console.log(`    ${failure}`);
  }
  const failed = results.filter(({ failures }) => failures.length > 0).length;
  const requests = results.reduce((sum, each) => sum + each.requests, 0);
  console.log(`\n${results.length - failed} passed, ${failed} failed (${requests} requests, ${formatMs(durationMs)})`);
}
