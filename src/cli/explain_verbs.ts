// The verbs that answer questions about routes, with the help that teaches them: explain and test.

import { resolve } from "node:path";
import { type Command, Option } from "commander";
import type { ExplainOptions } from "./explain.ts";
import type { TestOptions } from "./test.ts";

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

export function addTest(program: Command): void {
  program
    .command("test")
    .description("unit tests of routes and policies, without a cluster")
    .argument("<file...>", "tests: our own format, or istio-config-validator's as it stands")
    .option(
      "-f, --file <path>",
      "manifests to test (file or folder; repeatable), besides those a file names itself",
      collect,
      [],
    )
    .option("--junit <file>", "also write the results as JUnit XML")
    .addOption(new Option("-o, --output <format>", "for machines").choices(["json"]))
    .addHelpText(
      "after",
      `
Each request is explained (see meshbed explain --help) and held against what is expected of it. Exit code 1 when a test fails.

Examples (on a checkout):
  meshbed test examples/test/video.yaml
  meshbed test examples/test/validator.yaml -f testbed/50-routing.yaml --junit /tmp/routes.xml

A test:
  tests:
    - name: uploads pass the cache by
      request: { method: POST, url: http://localhost/upload }
      expect: { destination: web, route: writes }
docs/testing-routes.md has every field.`,
    )
    .action(async (files: string[], options: TestOptions) => (await import("./test.ts")).test(files, options));
}
