// The original testbed's finding: all outside traffic enters through one node, so one link is the limit.
// Three client machines download through the one gateway; together they get one link's bandwidth.
// Usage: bun bench/link.ts [--link 1gbit] [--clients 3] [--seconds 5]

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

const root = join(import.meta.dir, "..");
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    link: { type: "string", default: "1gbit" },
    clients: { type: "string", default: "3" },
    seconds: { type: "string", default: "5" },
  },
});
const connections = 4;
const warmUpMs = 1_000;

/** One keep-alive connection that asks for the same file again and again; tells how many body bytes came. */
function fetchForever(url: URL, onBytes: (count: number) => void): Promise<void> {
  const request = `GET ${url.pathname} HTTP/1.1\r\nhost: ${url.host}\r\n\r\n`;
  const { promise, reject } = Promise.withResolvers<void>();
  let left = 0;
  let head = "";
  Bun.connect({
    hostname: url.hostname,
    port: 80,
    socket: {
      open: (socket) => void socket.write(request),
      data(socket, chunk) {
        let body = chunk.length;
        if (left === 0) {
          head += chunk.toString("latin1");
          const end = head.indexOf("\r\n\r\n");
          if (end < 0) return;
          const length = /content-length: (\d+)/i.exec(head)?.[1];
          if (!head.startsWith("HTTP/1.1 200") || !length) return reject(new Error(head.slice(0, end)));
          body = head.length - end - 4;
          left = Number(length);
          head = "";
        }
        left -= body;
        onBytes(body);
        if (left === 0) socket.write(request);
      },
      close: () => reject(new Error("the gateway closed the connection")),
    },
  }).catch(reject);
  return promise;
}

/** One client machine: downloads until the time is over; prints how many bytes of bodies came after the warm-up. */
async function download(url: string, seconds: number): Promise<void> {
  let bytes = 0;
  let counting = false;
  const count = (more: number) => {
    if (counting) bytes += more;
  };
  const failed = Promise.all(Array.from({ length: connections }, () => fetchForever(new URL(url), count)));
  await Promise.race([failed, Bun.sleep(warmUpMs)]);
  counting = true;
  await Promise.race([failed, Bun.sleep(seconds * 1000)]);
  console.log(JSON.stringify({ bytes, seconds }));
  process.exit(0);
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

if (positionals[0] === "worker") await download(positionals[1]!, Number(positionals[2]));
else await main();
