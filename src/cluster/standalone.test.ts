// `meshbed proxy` as a process: serves a file, reloads it without a failed request, drains at SIGTERM.
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { realClock } from "../kernel/clock.ts";

const root = join(import.meta.dir, "../..");
const meshbed = join(root, "bin/meshbed");
const folder = mkdtempSync(join(tmpdir(), "meshbed-proxy-"));
const config = join(folder, "envoy.yaml");
const startMaxMs = 10_000;

interface Running {
  process: Bun.Subprocess<"ignore", "pipe", "pipe">;
  stderr(): string;
  url: string;
  admin: string;
}
const started: Running[] = [];
let backends: Bun.Server<undefined>[] = [];

beforeAll(() => {
  backends = ["v1", "v2"].map((version) =>
    Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      async fetch(request) {
        if (new URL(request.url).pathname === "/slow") await realClock.sleep(600);
        return new Response(version);
      },
    }),
  );
});
afterEach(() => {
  for (const { process } of started.splice(0)) process.kill("SIGKILL");
});
afterAll(async () => {
  for (const backend of backends) await backend.stop(true);
  rmSync(folder, { recursive: true });
});

/** The canary example with free ports. */
const canary = (weights: [number, number] = [95, 5]): string =>
  readFileSync(join(root, "examples/proxy/canary.yaml"), "utf8")
    .replace("9901", "0")
    .replace("port_value: 8080", "port_value: 0")
    .replace("9101 } }", `${backends[0]!.port} } }`)
    .replace("9102 } }", `${backends[1]!.port} } }`)
    .replace("weight: 95", `weight: ${weights[0]}`)
    .replace("weight: 5 ", `weight: ${weights[1]} `);

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadlineMs = realClock.monotonicMs() + startMaxMs;
  while (!holds()) {
    if (realClock.monotonicMs() > deadlineMs) throw new Error(`not reached: ${what}`);
    await realClock.sleep(5);
  }
}

async function start(text: string): Promise<Running> {
  writeFileSync(config, text);
  const child = Bun.spawn([meshbed, "proxy", "--config", config, "--drain-time-s", "2"], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, NO_COLOR: "1" },
  });
  let said = "";
  void (async () => {
    for await (const chunk of child.stderr) said += Buffer.from(chunk).toString();
  })();
  const running: Running = { process: child, stderr: () => said, url: "", admin: "" };
  started.push(running);
  await until("the proxy says it serves", () => said.includes("kill -HUP") || child.exitCode !== null);
  if (child.exitCode !== null) throw new Error(`meshbed proxy has ended: ${said}`);
  running.url = /ingress +(\S+)/.exec(said)![1]!;
  running.admin = /admin +(\S+)/.exec(said)![1]!;
  return running;
}

const validate = (text: string) => {
  writeFileSync(config, text);
  const { exitCode, stdout, stderr } = Bun.spawnSync([meshbed, "proxy", "-c", config, "--mode", "validate"], {
    env: { ...process.env, NO_COLOR: "1" },
  });
  return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
};

test("a canary is split as written, and a header chooses; curl gets its answer", async () => {
  const { url, admin } = await start(canary([50, 50]));
  const seen = { v1: 0, v2: 0 };
  for (let i = 0; i < 200; i++) seen[(await (await fetch(url)).text()) as "v1"]++;
  // 200 draws at a half: outside of 60 to 140 once in 10^8 runs.
  expect(seen.v1).toBeGreaterThan(60);
  expect(seen.v2).toBeGreaterThan(60);
  const curl = Bun.spawn(["curl", "-sS", "-H", "x-version: v2", url]);
  expect(await new Response(curl.stdout).text()).toBe("v2");
  expect(await (await fetch(`${admin}/ready`)).text()).toBe("LIVE\n");
  const stats = await (await fetch(`${admin}/stats?filter=http.ingress.downstream_rq_2xx`)).text();
  expect(stats).toBe("http.ingress.downstream_rq_2xx: 201\n");
});

test("SIGHUP takes the changed file over without a failed request", async () => {
  const running = await start(canary([100, 0]));
  const answers: string[] = [];
  let failed = 0;
  let stop = false;
  const load = Array.from({ length: 4 }, async () => {
    while (!stop) {
      const answer = await fetch(running.url).catch(() => undefined);
      if (answer?.status === 200) answers.push(await answer.text());
      else failed++;
    }
  });
  for (let i = 1; i <= 5; i++) {
    const before = answers.length;
    await until("some requests pass", () => answers.length > before + 20);
    writeFileSync(config, canary(i % 2 === 1 ? [0, 100] : [100, 0]));
    running.process.kill("SIGHUP");
    await until(`reload ${i}`, () => running.stderr().split("reloaded").length > i);
  }
  const from = answers.length + load.length;
  await until("requests after the last reload", () => answers.length > from + 20);
  stop = true;
  await Promise.all(load);
  expect(failed).toBe(0);
  expect(new Set(answers.slice(from))).toEqual(new Set(["v2"]));
  expect(new Set(answers)).toEqual(new Set(["v1", "v2"]));
}, 20_000);

test("SIGHUP with a broken file changes nothing, and says what is wrong", async () => {
  const running = await start(canary([100, 0]));
  writeFileSync(config, canary([100, 0]).replace("connect_timeout", "conect_timeout"));
  running.process.kill("SIGHUP");
  await until("it says so", () => running.stderr().includes("stays as it was"));
  expect(running.stderr()).toContain('unknown field "conect_timeout" (did you mean connect_timeout?)');
  expect(await (await fetch(running.url)).text()).toBe("v1");
});

test("SIGTERM lets requests in flight end, takes no new ones, and exits with 0", async () => {
  const running = await start(canary([100, 0]));
  const slow = fetch(new URL("/slow", running.url));
  await realClock.sleep(100);
  running.process.kill("SIGTERM");
  await until("it drains", () => running.stderr().includes("draining"));
  // Connections begun before the signal are still taken for a moment.
  await realClock.sleep(200);
  expect(fetch(running.url)).rejects.toThrow();
  expect(await (await slow).text()).toBe("v1");
  expect(await running.process.exited).toBe(0);
});

test("a second signal ends at once, and POST /quitquitquit ends with 0", async () => {
  const hasty = await start(canary([100, 0]));
  const slow = fetch(new URL("/slow", hasty.url)).catch(() => "broken off");
  await realClock.sleep(100);
  hasty.process.kill("SIGTERM");
  await until("it drains", () => hasty.stderr().includes("draining"));
  hasty.process.kill("SIGTERM");
  expect(await hasty.process.exited).toBe(128 + 15);
  expect(await slow).toBe("broken off");
  const asked = await start(canary());
  expect((await fetch(`${asked.admin}/quitquitquit`, { method: "POST" })).status).toBe(200);
  expect(await asked.process.exited).toBe(0);
});

test("a port that is taken ends the start with its address and code 1", async () => {
  // Without SO_REUSEPORT, as any other program would hold it.
  const holder = Bun.listen({ hostname: "127.0.0.1", port: 0, exclusive: true, socket: { data() {} } });
  try {
    writeFileSync(
      config,
      canary().replace("port_value: 0 } }\n      filter_chains", `port_value: ${holder.port} } }\n      filter_chains`),
    );
    const { exitCode, stderr } = Bun.spawnSync([meshbed, "proxy", "-c", config], {
      env: { ...process.env, NO_COLOR: "1" },
    });
    expect(exitCode).toBe(1);
    expect(stderr.toString()).toContain(`cannot listen on 127.0.0.1:${holder.port}`);
  } finally {
    holder.stop(true);
  }
});

test("--mode validate tells all problems with file and line, exits with 1, and starts nothing", () => {
  expect(validate(canary())).toMatchObject({
    exitCode: 0,
    stdout: expect.stringContaining("is valid: 1 listener, 2 clusters"),
  });
  const { exitCode, stderr } = validate(
    canary().replace("lb_endpoints", "lb_endpoint").replace("cluster: web-v2", "cluster: web-v3"),
  );
  expect(exitCode).toBe(1);
  expect(stderr).toContain(
    `${config}:49:13: static_resources.clusters[0].load_assignment.endpoints[0].lb_endpoint: unknown field "lb_endpoint" (did you mean lb_endpoints?)`,
  );
});

test("a file that is not there is said so", () => {
  const { exitCode, stderr } = Bun.spawnSync([meshbed, "proxy", "-c", join(folder, "none.yaml")], {
    env: { ...process.env, NO_COLOR: "1" },
  });
  expect(exitCode).toBe(1);
  expect(stderr.toString()).toContain("none.yaml cannot be read");
});
