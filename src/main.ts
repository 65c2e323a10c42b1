// Entry of every meshbed process. Inner processes skip the command-line library: a dozen of them start at once.

const innerVerbs = ["sandbox", "control-plane", "kubelet", "node-proxy", "gateway"];
const verb = process.argv[2] ?? "";

if (innerVerbs.includes(verb)) {
  const { runInner } = await import("./cluster/inner.ts");
  await runInner(verb, process.argv.slice(3));
} else {
  const { runCli } = await import("./cli/program.ts");
  await runCli(process.argv);
}

export {};
