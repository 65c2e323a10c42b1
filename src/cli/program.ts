// The command line: verbs and their options. Each verb's work is in a file of its own, loaded when it is called.

import { resolve } from "node:path";
import { Command, Option } from "commander";
import manifest from "../../package.json" with { type: "json" };
import { addAnalyze } from "./analyze_verb.ts";
import { addExplain, addTest } from "./explain_verbs.ts";
import type { ProxyOptions } from "./proxy.ts";
import { printError } from "./terminal.ts";

const collect = (value: string, list: string[]) => [...list, value];

export interface UpOptions {
  file: string[];
  detach: boolean;
  nodes?: string;
  clients?: string;
  link?: string;
  mode?: "namespaces" | "ports";
  httpPort?: string;
  httpsPort?: string;
  apiPort?: string;
  state: string;
}

const stateOption = () =>
  new Option("--state <folder>", "folder with the testbed's state, certificates, logs and volumes").default(".meshbed");

function addUp(program: Command): void {
  program
    .command("up")
    .description("start the testbed; with no option: the bundled video platform on one master and three workers")
    .option("-f, --file <path>", "run these manifests instead (file or folder; repeatable)", collect, [])
    .option("-d, --detach", "go on in the background once it is up", false)
    .option("--nodes <n>", "number of workers (default 3)")
    .option("--clients <n>", "client machines outside the cluster, for load (default 0)")
    .option("--link <rate>", 'bandwidth of every machine\'s link, each way: "1gbit", "100mbit" (default: unlimited)')
    .addOption(
      new Option("--mode <mode>", "isolation of pods (default: the best this machine allows)").choices([
        "namespaces",
        "ports",
      ]),
    )
    .option("--http-port <port>", "the gateway's port 80 on localhost (default 8080)")
    .option("--https-port <port>", "the gateway's port 443 on localhost (default 8443)")
    .option("--api-port <port>", "the Kubernetes API on localhost (default 6443)")
    .addOption(stateOption())
    .addHelpText(
      "after",
      `
Examples:
  meshbed up                                   the video platform, on http://localhost:8080
  meshbed up -d && kubectl --kubeconfig .meshbed/kubeconfig get pods -A
  meshbed up --link 1gbit --clients 3          links as in the original testbed, with three load machines
  meshbed up -f k8s/                           your own manifests; map their images to commands in meshbed.yaml:
                                                 images:
                                                   shop/front: { command: "bun front.ts" }

Ctrl-C stops everything. State (objects, uploads) stays in .meshbed and is there again at the next start;
\`meshbed down --purge\` removes it.`,
    )
    .action(async (options: UpOptions) => (await import("./up.ts")).up({ ...options, state: resolve(options.state) }));
}

function addProxy(program: Command): void {
  program
    .command("proxy")
    .description("run the proxy alone, from a static Envoy bootstrap file")
    .requiredOption("-c, --config <file>", "Envoy v3 bootstrap, YAML or JSON")
    .addOption(
      new Option("--mode <mode>", "serve, or only check the file").choices(["serve", "validate"]).default("serve"),
    )
    .addOption(
      new Option("-l, --log-level <level>", "how much is said on standard error")
        .choices(["trace", "debug", "info", "warning", "error", "critical"])
        .default("info"),
    )
    .option("--drain-time-s <seconds>", "after SIGTERM, how long connections may go on (default 45)")
    .addHelpText(
      "after",
      `
Examples:
  meshbed proxy --config examples/proxy/canary.yaml    5 % of the requests to version 2
  meshbed proxy -c envoy.yaml --mode validate          every mistake, with line and field; exit code 1 if there is one

SIGHUP reloads the file (an invalid one is refused, the running configuration stays). SIGTERM drains: no new connections, those there
are may end. Ctrl-C waits only for requests in flight. A second signal ends at once.
Access logs to /dev/stdout are all that is written there. docs/proxy.md lists which fields of Envoy are carried out.`,
    )
    .action(async (options: ProxyOptions) => (await import("./proxy.ts")).proxy(options));
}

function addProxyStatus(program: Command): void {
  program
    .command("proxy-status")
    .alias("ps")
    .description("what the control plane has told each proxy, and what the proxy made of it")
    .argument("[pod]", "one proxy in detail: pod, pod.namespace, namespace/pod, or a node's name")
    .addOption(new Option("-o, --output <format>", "how it is printed").choices(["text", "json"]).default("text"))
    .addOption(stateOption())
    .addHelpText(
      "after",
      `
SYNCED    all there is was sent, and the proxy has taken it
STALE     sent and not answered, or changed since it was sent
NACK      the proxy has refused a part; the reason follows, and what it had before serves on
NOT SENT  the proxy has not asked for it

Examples:
  meshbed proxy-status
  meshbed proxy-status web-1.video                 the difference between sent and taken, by resource name
  meshbed proxy-status -o json | jq '.[].nodeId'`,
    )
    .action(async (pod, options) =>
      (await import("./proxy-status.ts")).proxyStatus(resolve(options.state), pod, options.output),
    );
}

function addOthers(program: Command): void {
  program
    .command("down")
    .description("stop the testbed")
    .option("--purge", "also remove its state: objects, uploads, certificates, logs", false)
    .addOption(stateOption())
    .action(async (options) => (await import("./down.ts")).down(resolve(options.state), options.purge));
  program
    .command("status")
    .description("nodes, pods and URLs of the running testbed")
    .addOption(stateOption())
    .action(async (options) => (await import("./status.ts")).status(resolve(options.state)));
  addProxyStatus(program);
  program
    .command("restart")
    .description("replace node proxies by new processes while traffic flows (hot restart)")
    .argument(
      "[component...]",
      "proxy-<node>, as in `meshbed logs`; every node's proxy, one after another, when absent",
    )
    .addOption(stateOption())
    .addHelpText(
      "after",
      `
A new process starts beside the old one, gets its configuration and certificates, and only then listens. New connections go to
it from that moment; the old process lets those it has go on, each until its next answer, and ends after 45 seconds at the latest.
No request fails. If the new process does not come up, the old one goes on.

A gateway is a pod:  kubectl -n istio-system rollout restart deployment <gateway>`,
    )
    .action(async (components, options) => (await import("./restart.ts")).restart(resolve(options.state), components));
  program
    .command("logs")
    .description("what meshbed's own processes say (for a pod's log: kubectl logs)")
    .argument("[component]", "sandbox, control-plane, kubelet-<node> or proxy-<node>; all when absent")
    .option("-f, --follow", "go on as lines are written", false)
    .option("-n, --lines <n>", "how many of the last lines", "50")
    .addOption(stateOption())
    .action(async (component, options) => (await import("./logs.ts")).logs(resolve(options.state), component, options));
  program
    .command("exec")
    .description("run a command on a machine of the testbed, in its network: a node (worker1) or a client (client1)")
    .argument("<machine>")
    .argument("<command...>")
    .passThroughOptions()
    .addOption(stateOption())
    .addHelpText(
      "after",
      `
Examples:
  meshbed exec client1 -- curl -s http://172.20.0.11/        from outside the cluster, over client1's link
  meshbed exec worker1 -- ip -brief address                  look at a node's interfaces`,
    )
    .action(async (machine, command, options) =>
      (await import("./exec.ts")).exec(resolve(options.state), machine, command),
    );
}

export async function runCli(argv: readonly string[]): Promise<void> {
  const program = new Command("meshbed")
    .description("A service mesh testbed on one machine: Kubernetes API, Istio API, real traffic over real links.")
    .version(manifest.version)
    .enablePositionalOptions()
    .showHelpAfterError("(meshbed --help shows every verb)")
    .addHelpText(
      "after",
      `
Start here:
  meshbed up                     the video platform behind the mesh: http://localhost:8080
  export KUBECONFIG=$PWD/.meshbed/kubeconfig
  kubectl get pods -A -o wide`,
    );
  addUp(program);
  addProxy(program);
  addAnalyze(program, stateOption);
  addOthers(program);
  addExplain(program);
  addTest(program);
  try {
    await program.parseAsync([...argv]);
  } catch (error) {
    printError(error);
    process.exitCode = 1;
  }
}
