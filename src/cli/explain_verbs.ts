// The verbs that answer questions about routes, with the help that teaches them: explain and test.

import { resolve } from "node:path";
import { type Command, Option } from "commander";
import type { ExplainOptions } from "./explain.ts";

const collect = (value: string, list: string[]) => [...list, value];

export function addExplain(program: Command): void {
  program
    .command("explain")
    .description("what would happen to one request, and why: route, policies, endpoints, answer")
    .argument("<method>", "GET, POST, …")
    .argument("<url>", "as the caller writes it: http://shop.example.com/cart, or http://web/ from a pod")
    .option(
      "--from <caller>",
      'who sends it: a pod ("namespace/pod", or the name of its Deployment), a gateway, an IP address, or "outside" (the default)',
    )
    .option("-H, --header <header>", '"name: value" (repeatable)', collect, [])
    .option(
      "-f, --file <path>",
      "explain these manifests (file or folder; repeatable) instead of the running testbed",
      collect,
      [],
    )
    .option("--send", "also send it, and set what came back beside the prediction", false)
    .addOption(new Option("-o, --output <format>", "for machines").choices(["json"]))
    .addOption(new Option("--state <folder>", "folder of the running testbed").default(".meshbed"))
    .addHelpText(
      "after",
      `
Works without a cluster: -f takes the manifests you would apply; pods, addresses and endpoints are made up from Deployments and
Services. Every match and verdict is the proxy's own, on the xDS resources that the control plane makes. docs/explain.md

Examples (on a checkout):
  meshbed explain GET http://localhost:8080/ -f testbed/
  meshbed explain POST http://localhost:8080/api/videos -f testbed/ -f testbed/canary/routing-weights.yaml
  meshbed explain GET http://web/ --from cache -f testbed/

With a testbed running (meshbed up -d):
  meshbed explain GET http://localhost:8080/ --send
  meshbed explain GET http://web/ --from cache --send -o json`,
    )
    .action(async (method, url, options: ExplainOptions) =>
      (await import("./explain.ts")).explain(method, url, { ...options, state: resolve(options.state) }),
    );
}
