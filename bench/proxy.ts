// What the data plane costs beside nginx and HAProxy in the same run. See --help.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { realClock, timestamp } from "../src/kernel/clock.ts";
import { latencyCase } from "./proxy/cases/latency.ts";
import { memoryCases } from "./proxy/cases/memory.ts";
import { soakCase } from "./proxy/cases/soak.ts";
import { throughputCases } from "./proxy/cases/throughput.ts";
import { createLab, loadCore, which } from "./proxy/processes.ts";
import { machine, sectionOf, tableOf, updateResults } from "./proxy/report.ts";
import { bundleChild, installed, startBackend } from "./proxy/subjects.ts";
import type { Bench, Case, Options } from "./proxy/types.ts";

const cases: readonly Case[] = [...throughputCases, latencyCase, ...memoryCases, soakCase];
const resultsFile = join(import.meta.dir, "results/proxy.md");

interface Arguments extends Options {
  case?: Case[];
  all?: true;
  save?: true;
}

function chosen(text: string): Case[] {
  return text.split(",").map((name) => {
    const found = cases.find((entry) => entry.name === name);
    if (!found)
      throw new InvalidArgumentError(
        `There is no case "${name}"; the cases are ${cases.map((c) => c.name).join(", ")}.`,
      );
    return found;
  });
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError("A positive number is wanted.");
  return value;
}

const command = new Command("bench/proxy")
  .description(
    "Measures meshbed's proxy beside nginx and HAProxy: each on core 0, load and backend on core 1, taking turns in every round.\n" +
      "Prints a table per case with the median and meshbed's ratio to each rival; a rival that is not installed is left out.",
  )
  .option("--case <names>", "only these cases, separated by commas", chosen)
  .option("--all", "the cases that run only on demand, too")
  .option("--rounds <n>", "interleaved rounds", positive, 5)
  .option("--quick", "a quarter of the time per sample: to see that it works, not to quote", false)
  .option("--minutes <n>", "how long the soak runs", positive, 10)
  .option(
    "--save",
    `write the sections of these cases into ${resultsFile.slice(resultsFile.indexOf("bench/"))} (done anyway when all default cases ran)`,
  )
  .addHelpText(
    "after",
    `\nCases:\n${cases.map(({ name, what, onDemand }) => `  ${name.padEnd(14)} ${onDemand ? "(on demand) " : ""}${what}`).join("\n")}`,
  )
  .addHelpText("after", "\nExample:\n  npx bun bench/proxy.ts --case small-get,large-get --rounds 9");

async function main(options: Arguments): Promise<void> {
  const selected = options.case ?? cases.filter(({ onDemand }) => options.all || !onDemand);
  if (!installed("wrk")) process.exit(1);
  const lab = createLab();
  const interrupted = (): void => void lab.close().finally(() => process.exit(130));
  process.once("SIGINT", interrupted).once("SIGTERM", interrupted);
  Bun.spawnSync(["taskset", "-a", "-c", "-p", loadCore, String(process.pid)]);
  const sections = new Map<string, string>();
  const where = machine(which);
  try {
    await bundleChild(lab);
    const bench: Bench = { ...options, lab, backendPort: await startBackend(lab) };
    console.log(where);
    for (const entry of selected) {
      console.log(`\n${entry.what}`);
      const rows = await entry.run(bench);
      console.log(tableOf(entry.name, rows));
      sections.set(entry.name, sectionOf(entry, rows, options, timestamp(realClock).slice(0, 10), where));
    }
  } finally {
    await lab.close();
  }
  if (options.save || (!options.case && !options.quick)) {
    mkdirSync(join(resultsFile, ".."), { recursive: true });
    updateResults(
      resultsFile,
      sections,
      cases.map(({ name }) => name),
    );
  }
}

await main(command.parse().opts<Arguments>());
