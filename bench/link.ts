// The original testbed's finding: all outside traffic enters through one node, so one link is the limit.
// Three client machines download through the one gateway; together they get one link's bandwidth.
// Usage: bun bench/link.ts [--link 1gbit] [--clients 3] [--seconds 5]

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

const root = join(import.meta.dir, "..");
const { values } = parseArgs({
  options: {
    link: { type: "string", default: "1gbit" },
    clients: { type: "string", default: "3" },
    seconds: { type: "string", default: "5" },
  },
});
const connections = 4;
const warmUpMs = 1_000;

/** One client machine: downloads over and over until told to stop; prints bytes received and milliseconds taken. */
async function download(url: string, seconds: number): Promise<void> {
  let bytes = 0;
  let counting = false;
  const endMs = performance.now() + warmUpMs + seconds * 1000;
  setTimeout(() => {
    counting = true;
  }, warmUpMs);
  const one = async () => {
    while (performance.now() < endMs) {
      const response = await fetch(url);
      if (response.status !== 200) throw new Error(`${url}: ${response.status}`);
      for await (const chunk of response.body!) if (counting && performance.now() < endMs) bytes += chunk.length;
    }
  };
  await Promise.all(Array.from({ length: connections }, one));
  console.log(JSON.stringify({ bytes, seconds }));
}

async function main(): Promise<void> {
  const state = mkdtempSync(join(tmpdir(), "meshbed-bench-"));
  const meshbed = (...args: string[]) => [join(root, "bin/meshbed"), ...args, "--state", state];
  const run = async (argv: string[]) => {
    const child = Bun.spawn(argv, { stdout: "pipe", stderr: "inherit", cwd: tmpdir() });
    const output = await new Response(child.stdout).text();
    if ((await child.exited) !== 0) throw new Error(`${argv.join(" ")}: exit code ${child.exitCode}\n${output}`);
    return output;
  };
  const portArgs = ["--http-port", "18080", "--https-port", "18443", "--api-port", "16443"];
  await run(meshbed("up", "-d", "--link", values.link, "--clients", values.clients, ...portArgs));
  try {
    const kubectl = (...args: string[]) => run(["kubectl", "--kubeconfig", join(state, "kubeconfig"), ...args]);
    const gateway = await kubectl(
      "get",
      "pods",
      "-A",
      "-l",
      "istio=ingressgateway",
      "-o",
      "jsonpath={.items[0].status.hostIP}",
    );
    const page = await (await fetch("http://127.0.0.1:18080/")).text();
    const video = /\/videos?\/([\w-]+)/.exec(page)?.[0];
    const watch = await (await fetch(`http://127.0.0.1:18080${video}`)).text();
    const source = /<(?:source|video)[^>]* src="([^"]+)"/.exec(watch)?.[1];
    if (!source) throw new Error(`no video on the page ${video}`);
    const url = `http://${gateway}${source}`;
    console.log(`${values.clients} clients × ${connections} connections, links of ${values.link}, ${url}`);
    const reports = await Promise.all(
      Array.from({ length: Number(values.clients) }, async (_, i) => {
        const inner = [process.execPath, import.meta.path, "worker", url, values.seconds];
        return JSON.parse(await run([...meshbed("exec"), `client${i + 1}`, "--", ...inner])) as { bytes: number };
      }),
    );
    let total = 0;
    for (const [i, { bytes }] of reports.entries()) {
      total += bytes;
      console.log(`  client${i + 1}  ${((bytes * 8) / Number(values.seconds) / 1e9).toFixed(3)} Gbit/s`);
    }
    console.log(`  together ${((total * 8) / Number(values.seconds) / 1e9).toFixed(3)} Gbit/s of HTTP bodies`);
  } finally {
    await run(meshbed("down"));
    rmSync(state, { recursive: true, force: true });
  }
}

if (process.argv[2] === "worker") await download(process.argv[3]!, Number(process.argv[4]));
else await main();
