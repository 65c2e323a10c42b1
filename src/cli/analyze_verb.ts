// The verb `analyze`: its options and the help that teaches it.

import { resolve } from "node:path";
import { type Command, Option } from "commander";

const collect = (value: string, list: string[]) => [...list, value];
const thresholds = ["Info", "Warning", "Error"] as const;

export function addAnalyze(program: Command, stateOption: () => Option): void {
  program
    .command("analyze")
    .description("find mistakes in manifests, or in what runs, with place and suggestion (as istioctl analyze)")
    .argument("[path...]", 'files and folders, or "-"; the running testbed when absent')
    .option("-A, --use-testbed", "look at the files as if they were applied to the running testbed", false)
    .option("-R, --recursive", "also the folders below", false)
    .option("-n, --namespace <name>", "only about this namespace")
    .addOption(
      new Option("-o, --output <format>", "how to print findings")
        .choices(["text", "json", "yaml", "sarif", "github"])
        .default("text"),
    )
    .addOption(
      new Option("--failure-threshold <level>", "exit with 79 when there is a finding of this level or above")
        .choices(thresholds)
        .default("Error"),
    )
    .addOption(
      new Option("--output-threshold <level>", "print this level and above").choices(thresholds).default("Info"),
    )
    .option("-S, --suppress <code=resource>", '"IST0102=Namespace default"; * is anything (repeatable)', collect, [])
    .option("-L, --list", "list every code, and those of Istio that do not apply here", false)
    .addOption(stateOption())
    .addHelpText(
      "after",
      `
Examples:
  meshbed analyze testbed                              the bundled manifests: no issues
  meshbed analyze examples/analyze/mistakes.yaml       one file full of mistakes, each with line and suggestion
  meshbed analyze                                      what runs in the testbed now
  meshbed analyze -A routes.yaml                       before \`kubectl apply\`: would it fit what runs?
  meshbed analyze k8s -o github --failure-threshold Warning        in CI: annotations, exit code 79

A finding is silenced on one object by the annotation galley.istio.io/analyze-suppress: IST0118.
Exit codes: 0 nothing at or above the threshold, 79 something, 65 a file cannot be read. docs/analyze.md explains the codes.`,
    )
    .action(async (paths, options) =>
      (await import("./analyze.ts")).analyzeVerb(paths, { ...options, state: resolve(options.state) }),
    );
}
