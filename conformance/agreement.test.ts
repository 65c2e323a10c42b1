// `explain` says what happens: 10,000 generated requests against 200 generated configurations, explained and sent through real proxies.
import { expect, test } from "bun:test";
import { join } from "node:path";
import type { Disagreement, Summary } from "./agreement/run.ts";
import { isRoot } from "./testbed.ts";

const configurations = 200;
const requestsPerConfiguration = 50;
/** Another one for another 10,000: `bun conformance/agreement/run.ts --seed N` in a network namespace. */
const firstSeed = 1;
const timeoutMs = 180_000;

/** In a network of its own, in which every address of loopback is there and every port is free. */
const isolated = ["unshare", "--net", ...(isRoot ? [] : ["--user", "--map-root-user"]), "--", "sh", "-c"];

function report({ seed, request, why, predicted, got, yaml }: Disagreement): string {
  return [
    `seed ${seed}: ${JSON.stringify(request)}`,
    `  ${why}`,
    "  predicted:",
    ...predicted.map((one) => `    ${one}`),
    `  got: ${got}`,
    yaml,
  ].join("\n");
}

test.skipIf(process.platform !== "linux")(
  "what explain predicts of a request is what happens to it",
  async () => {
    const script = join(import.meta.dir, "agreement/run.ts");
    const options = `--seed ${firstSeed} --configurations ${configurations} --requests ${requestsPerConfiguration}`;
    const command = `ip link set lo up && exec "${process.execPath}" "${script}" ${options}`;
    const child = Bun.spawn([...isolated, command], { stdout: "pipe", stderr: "pipe", timeout: timeoutMs });
    const [text, problems] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    expect(await child.exited, problems).toBe(0);
    const summary = JSON.parse(text) as Summary;
    const { requests, disagreements, ends, explainMs, durationMs, shown } = summary;
    console.log(
      `agreement: ${requests} requests, ${disagreements} disagreements, ${JSON.stringify(ends)}, ` +
        `${(explainMs / requests).toFixed(2)} ms per explanation, ${Math.round(durationMs / 1000)} s`,
    );
    expect(shown.map(report)).toEqual([]);
    expect(disagreements).toBe(0);
    expect(requests).toBe(configurations * requestsPerConfiguration);
    // A generator that reached nothing would agree with everything.
    expect(ends["application"]).toBeGreaterThan(requests / 5);
    for (const status of ["200", "301", "302", "400", "401", "403", "404", "503"])
      expect(ends[status], status).toBeGreaterThan(10);
  },
  timeoutMs,
);
