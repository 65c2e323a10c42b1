// Runs inside a sandbox (see namespaces-runtime.test.ts): real pods on one node, as root or rootless.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { realClock as clock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { findCgroups } from "./cgroups.ts";
import { createNamespacesRuntime } from "./namespaces-runtime.ts";
import { prepareSandbox } from "./sandbox.ts";
import { createTopology, inNetworkNamespace } from "./topology.ts";
import type { ContainerSpec, PodNetworkSpec, PodSandbox, Runtime } from "./types.ts";

const node = { name: "worker1", ip: "172.20.0.11" };
const rootless = process.env["MESHBED_TEST_ROOTLESS"] === "1";
const folder = mkdtempSync("/tmp/meshbed-host-test-");
const shared = join(folder, "shared");
mkdirSync(join(shared, "inner"), { recursive: true });
writeFileSync(join(shared, "inner/file"), "seen\n");
const options = {
  node,
  rootless,
  sharedPaths: [join(import.meta.dir, "../.."), shared, join(shared, "inner")],
  clock,
  log: silentLog,
};

let runtime: Runtime;
let pod: PodSandbox;
let count = 0;

const podSpec = (podId: string, ip: string, hostNetwork = false): PodNetworkSpec => ({
  podId,
  hostname: `host-${podId}`,
  ip,
  hostNetwork,
  resolvConf: "nameserver 10.96.0.10\n",
  hosts: "127.0.0.1 localhost\n",
});

function container(argv: string[], more: Partial<ContainerSpec> = {}): ContainerSpec {
  const id = `c-${count++}`;
  return {
    id,
    argv,
    env: { PATH: "/usr/local/bin:/usr/bin:/bin" },
    workingDir: undefined,
    mounts: [],
    logPath: join(folder, `${id}.log`),
    memoryLimitBytes: undefined,
    cpuLimitMillis: undefined,
    ...more,
  };
}

const linesOf = (spec: ContainerSpec) =>
  readFileSync(spec.logPath, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => line.replace(/^\S+ /, "").trimEnd());

/** Runs to its end; what it wrote, without time stamps. */
async function outputOf(script: string, more: Partial<ContainerSpec> = {}, where = pod): Promise<string[]> {
  const spec = container(["/bin/sh", "-c", script], more);
  const started = await where.start(spec);
  await started.exited;
  return linesOf(spec);
}

/** Pids of this process namespace. */
const pids = () => readdirSync("/proc").filter((name) => /^\d+$/.test(name));
const links = async () => (await Bun.$`ip -o link`.text()).split("\n").filter((line) => line !== "").length;

async function whenTrue(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !condition(); i++) await clock.sleep(10);
  expect(condition()).toBe(true);
}

beforeAll(async () => {
  // Enters the node's network as a kubelet would: this process stays outside, its commands go in.
  if (process.env["MESHBED_TEST_NODE"] === "1") {
    runtime = createNamespacesRuntime(options);
    pod = await runtime.createPod(podSpec("uid-1", "10.244.1.2"));
  }
});

afterAll(async () => {
  if (process.env["MESHBED_TEST_NODE"] === "1") {
    await pod.remove();
    expect(await links()).toBe(2);
    expect(readdirSync("/run/netns")).toEqual(["worker1"]);
    expect(existsSync("/run/meshbed/pods/worker1/uid-1")).toBe(false);
  }
  rmSync(folder, { recursive: true });
});

if (process.env["MESHBED_TEST_NODE"] !== "1") {
  test("the suite passes on a node", async () => {
    await prepareSandbox(clock);
    const topology = await createTopology({ nodes: [node], clients: [] }, clock);
    const argv = inNetworkNamespace(node.name, [process.execPath, "test", `./${import.meta.file}`]);
    const before = pids().length;
    const child = Bun.spawn(argv, {
      cwd: import.meta.dir,
      env: { ...process.env, MESHBED_TEST_NODE: "1" },
      stdout: "inherit",
      stderr: "inherit",
    });
    expect(await child.exited).toBe(0);
    expect(pids().length).toBe(before);
    await topology.remove();
  }, 60_000);
} else {
  test("a container has its own host name, resolver, hosts, processes and address", async () => {
    const script =
      "cat /etc/resolv.conf /etc/hosts /etc/hostname; hostname; echo $$; ls /proc | grep -c '^[0-9]'; hostname -I";
    const lines = await outputOf(script);
    expect(lines.slice(0, 4)).toEqual([
      "stdout F nameserver 10.96.0.10",
      "stdout F 127.0.0.1 localhost",
      "stdout F host-uid-1",
      "stdout F host-uid-1",
    ]);
    expect(lines[5]).toMatch(/^stdout F [345]$/);
    expect(lines[6]).toBe("stdout F 10.244.1.2");
  });

  test("a container sees the machine's programs and the project, and writes touch neither", async () => {
    const self = import.meta.path;
    const script = `cd ${import.meta.dir}; ls ${import.meta.file}; ${process.execPath} -e 'console.log(1+1)'; mkdir -p /opt/x && echo a > /opt/x/y && cat /opt/x/y; rm -f ${self}; ls /tmp /.old; echo t > /tmp/t; echo r > /run/r; echo n > /dev/null; cat /run/r`;
    const lines = await outputOf(script);
    expect(lines[0]).toBe(`stdout F ${import.meta.file}`);
    expect(lines).toContain("stdout F 2");
    expect(lines).toContain("stdout F a");
    expect(lines).toContain("stdout F r");
    expect(existsSync("/opt/x")).toBe(false);
    expect(existsSync("/run/r")).toBe(false);
    expect(existsSync(self)).toBe(true);
  });

  test("a shared folder is seen even below /tmp, and writes to it stay in the container", async () => {
    const script = `cat inner/file; echo new > inner/file; cat ${shared}/inner/file; ls ${folder}`;
    expect(await outputOf(script, { workingDir: shared })).toEqual([
      "stdout F seen",
      "stdout F new",
      "stdout F shared",
    ]);
    expect(readFileSync(join(shared, "inner/file"), "utf8")).toBe("seen\n");
  });

  test("volumes appear where they are mounted, also through links and as single files; read-only ones refuse writes", async () => {
    const data = join(folder, "data with space");
    mkdirSync(data);
    writeFileSync(join(data, "in"), "hello\n");
    const mounts = [
      { source: data, target: "/data", readOnly: false },
      { source: data, target: "/var/run/secrets/it's", readOnly: true },
      { source: join(data, "in"), target: "/etc/app/one.conf", readOnly: true },
    ];
    const script =
      'cat /data/in /etc/app/one.conf; echo out > /data/out; ls /run/secrets; echo no > "/var/run/secrets/it\'s/no" || echo refused';
    const lines = await outputOf(script, { mounts });
    expect(lines.slice(0, 3)).toEqual(["stdout F hello", "stdout F hello", "stdout F it's"]);
    expect(lines.at(-1)).toBe("stdout F refused");
    expect(readFileSync(join(data, "out"), "utf8")).toBe("out\n");
    expect(existsSync(join(data, "no"))).toBe(false);
  });

  test("environment, working folder and arguments arrive as given", async () => {
    const env = { PATH: "/usr/bin:/bin", A: "x y\n'z'", "odd.name": "1" };
    const spec = container(["env"], { env, workingDir: "/srv/new/folder" });
    await (await pod.start(spec)).exited;
    expect(linesOf(spec).toSorted()).toEqual(
      ["A=x y", "'z'", "PATH=/usr/bin:/bin", "PWD=/srv/new/folder", "odd.name=1"]
        .map((l) => `stdout F ${l}`)
        .toSorted(),
    );
    const args = container(["sh", "-c", 'pwd; echo "$1"', "sh", "it's $HOME"], { workingDir: "/srv/new/folder" });
    await (await pod.start(args)).exited;
    expect(linesOf(args)).toEqual(["stdout F /srv/new/folder", "stdout F it's $HOME"]);
  });

  test("exit codes and signals are told apart, and SIGTERM reaches the program", async () => {
    const code = await (await pod.start(container(["sh", "-c", "exit 3"]))).exited;
    expect(code.code).toBe(3);
    expect(code.signal).toBeUndefined();
    const sleep = container(["sleep", "100"]);
    const sleeper = await pod.start(sleep);
    sleeper.kill("SIGTERM");
    expect(await sleeper.exited).toMatchObject({ code: 143, signal: "SIGTERM" });
    expect(readFileSync(sleep.logPath, "utf8")).toBe("");
    sleeper.kill("SIGKILL");
    const trap = await pod.start(container(["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done"]));
    await clock.sleep(100);
    trap.kill("SIGTERM");
    expect((await trap.exited).code).toBe(7);
  });

  test("a missing program, volume or unwritable folder is an error that names it, and leaves nothing", async () => {
    const before = pids().length;
    expect(pod.start(container(["no-such-program"]))).rejects.toThrow('"no-such-program": executable file not found');
    expect(pod.start(container(["/no/such"]))).rejects.toThrow('"/no/such": no such file');
    const mounts = [{ source: "/no/such/source", target: "/data", readOnly: false }];
    expect(pod.start(container(["true"], { mounts }))).rejects.toThrow("/no/such/source");
    await whenTrue(() => pids().length === before);
  });

  test("orphans are reaped while the container lives, and SIGKILL ends the whole tree", async () => {
    const before = pids().length;
    const script = "(sleep 0.01 & sleep 0.01 & setsid sleep 100 &) ; while :; do sleep 0.02; done";
    const started = await pod.start(container(["sh", "-c", script]));
    await clock.sleep(300);
    const result = await pod.exec(
      `c-${count - 1}`,
      ["sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '"],
      2000,
    );
    expect(result.output.trim()).toBe("0");
    started.kill("SIGKILL");
    expect((await started.exited).code).toBe(137);
    expect(pids().length).toBe(before);
  });

  test("exec runs inside the container, bounded in time and output", async () => {
    const started = await pod.start(container(["sleep", "100"], { env: { PATH: "/usr/bin:/bin", WHO: "me" } }));
    const id = `c-${count - 1}`;
    const before = pids().length;
    expect(await pod.exec(id, ["sh", "-c", "hostname; echo $WHO; pwd; exit 4"], 2000)).toEqual({
      code: 4,
      output: "host-uid-1\nme\n/\n",
      timedOut: false,
    });
    const began = clock.monotonicMs();
    const slow = await pod.exec(id, ["sh", "-c", "sleep 50 & sleep 60"], 200);
    expect(slow.timedOut).toBe(true);
    expect(clock.monotonicMs() - began).toBeLessThan(1500);
    expect((await pod.exec(id, ["sh", "-c", "yes | head -c 1000000"], 5000)).output.length).toBe(64 * 1024);
    await whenTrue(() => pids().length === before);
    started.kill("SIGKILL");
    await started.exited;
    expect(pod.exec(id, ["true"], 100)).rejects.toThrow("not running");
  });

  test("two containers of a pod share its network and nothing else", async () => {
    const server = `require("net").createServer((s) => s.end("hi")).listen(80, "127.0.0.1")`;
    const first = await pod.start(container([process.execPath, "-e", server]));
    const client = `for (let i = 0; i < 50; i++) { try { const s = await new Promise((ok, no) => { const c = require("net").connect(80, "127.0.0.1"); c.on("data", (d) => ok(String(d))); c.on("error", no); }); console.log(s); process.exit(0); } catch { await Bun.sleep(20); } }`;
    const spec = container([process.execPath, "-e", client]);
    await (await pod.start(spec)).exited;
    expect(linesOf(spec)).toEqual(["stdout F hi"]);
    first.kill("SIGKILL");
    await first.exited;
  });

  test("a pod on the host network shares the node's addresses", async () => {
    const host = await runtime.createPod(podSpec("uid-host", node.ip, true));
    expect((await outputOf("hostname -I", {}, host))[0]).toContain(node.ip);
    await host.remove();
  });

  test("a removed pod's address can be used again at once", async () => {
    for (let i = 0; i < 5; i++) {
      const next = await runtime.createPod(podSpec(`uid-again-${i}`, "10.244.1.77"));
      expect(await outputOf("hostname -I", {}, next)).toEqual(["stdout F 10.244.1.77"]);
      await next.remove();
    }
  });

  test("pods end with a killed kubelet, and the next one cleans up after it", async () => {
    const before = pids().length;
    const kubelet = `
      const { createNamespacesRuntime } = await import("./namespaces-runtime.ts");
      const { realClock: clock } = await import("../kernel/clock.ts");
      const { silentLog: log } = await import("../kernel/log.ts");
      const runtime = createNamespacesRuntime({ node: ${JSON.stringify(node)}, rootless: ${rootless}, sharedPaths: [], clock, log });
      const pod = await runtime.createPod(${JSON.stringify(podSpec("uid-left", "10.244.1.50"))});
      await pod.start(${JSON.stringify(container(["sh", "-c", "setsid sleep 1000 & sleep 1000"]))});
      console.log("READY"); await Bun.sleep(60_000);`;
    const child = Bun.spawn([process.execPath, "-e", kubelet], {
      cwd: import.meta.dir,
      stdout: "pipe",
      stderr: "inherit",
    });
    await child.stdout.getReader().read();
    expect(readdirSync("/run/netns")).toContain("worker1_uid-left");
    child.kill("SIGKILL");
    await child.exited;
    await whenTrue(() => pids().length === before);
    const others = readdirSync("/run/netns").filter((name) => name !== "worker1_uid-left");
    // cleanUp is for a start: it takes every pod of the node, so this test's own is made anew.
    await pod.remove();
    await runtime.cleanUp();
    expect(readdirSync("/run/netns")).toEqual(others.filter((name) => name !== "worker1_uid-1"));
    expect(readdirSync("/run/meshbed/pods")).toEqual([]);
    expect(await links()).toBe(2);
    pod = await runtime.createPod(podSpec("uid-1", "10.244.1.2"));
  });

  const { memory, cpu } = findCgroups();
  test.skipIf(!memory)("a container over its memory limit is killed, and its control group goes with it", async () => {
    const hog =
      "const kept = []; for (let i = 0; i < 400; i++) kept.push(Buffer.alloc(1 << 20, 1)); console.log('all');";
    const limited = container([process.execPath, "-e", hog], { memoryLimitBytes: 128 * 1024 * 1024 });
    expect(await (await pod.start(limited)).exited).toMatchObject({ code: 137, signal: "SIGKILL", oomKilled: true });
    expect(linesOf(limited)).not.toContain("stdout F all");
    const enough = container([process.execPath, "-e", hog], { memoryLimitBytes: 1024 * 1024 * 1024 });
    expect((await (await pod.start(enough)).exited).oomKilled).toBeUndefined();
    expect(linesOf(enough)).toContain("stdout F all");
    expect(readdirSync(memory!).filter((name) => name.includes("uid-1"))).toEqual([]);
  });

  test.skipIf(!cpu)("a container over its processor limit is throttled", async () => {
    const busy =
      "const t = process.cpuUsage(); const end = performance.now() + 800; while (performance.now() < end); const u = process.cpuUsage(t); console.log(u.user + u.system);";
    const spec = container([process.execPath, "-e", busy], { cpuLimitMillis: 200 });
    await (await pod.start(spec)).exited;
    expect(Number(linesOf(spec)[0]!.split(" ")[2])).toBeLessThan(400_000);
  });

  test("starting a container takes a few milliseconds", async () => {
    const times: number[] = [];
    for (let i = 0; i < 15; i++) {
      const began = clock.monotonicMs();
      const started = await pod.start(
        container(["sleep", "100"], { mounts: [{ source: folder, target: "/data", readOnly: false }] }),
      );
      times.push(clock.monotonicMs() - began);
      started.kill("SIGKILL");
      await started.exited;
    }
    times.sort((a, b) => a - b);
    console.log(`container start: median ${times[7]!.toFixed(1)} ms, slowest ${times[14]!.toFixed(1)} ms`);
    expect(times[7]).toBeLessThan(100);
  });
}
