// `meshbed up`: settings and options → configuration → supervisor; prints each step, then the URLs, then a live line.

import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { basicManifests } from "../cluster/basics.ts";
import { mainBundle } from "../cluster/bundle.ts";
import type { ClusterConfig } from "../cluster/config.ts";
import { saveConfig, statePaths } from "../cluster/config.ts";
import { manifestFiles, readManifests } from "../cluster/manifests.ts";
import { ensurePki, hasPki } from "../cluster/pki.ts";
import { planCluster } from "../cluster/plan.ts";
import { clientsMax, nodesMax, readSettings, type Settings } from "../cluster/settings.ts";
import { clearRunning, readRunning, writeRunning } from "../cluster/state.ts";
import { superviseCluster } from "../cluster/supervisor.ts";
import { probeIsolation } from "../host/probe.ts";
import { preloadAuthority } from "../identity/authority.ts";
import { realClock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { detach } from "./detach.ts";
import type { UpOptions } from "./program.ts";
import { createTerminal, paint } from "./terminal.ts";
import { UpView } from "./up-view.ts";

/** This file is in src/cli/, or bundled in dist/<stamp>/. */
const projectRoot = resolve(import.meta.dir, "../..");
const ownBundle = import.meta.path.endsWith(".ts") ? undefined : join(import.meta.dir, "main.js");

function numberOption(name: string, value: string | undefined, min: number, max: number): number | undefined {
  if (value === undefined) return undefined;
  const number = Number(value);
  if (!Number.isInteger(number) || number < min || number > max)
    throw new MeshbedError("OPTION_INVALID", `--${name} ${value}: must be a whole number from ${min} to ${max}`);
  return number;
}

/** The bundled application's manifests, or the user's on top of the gateway that every mesh has. */
function manifestsOf(files: readonly string[]): string[] {
  if (files.length === 0) {
    const testbed = join(projectRoot, "testbed");
    return [...manifestFiles(join(testbed, "embedded")), ...manifestFiles(testbed)];
  }
  const own = files.flatMap((path) => manifestFiles(resolve(path)));
  // Read now, so that a mistake is told before anything starts.
  const objects = own.flatMap(readManifests).map(({ object }) => object);
  return [...basicManifests(projectRoot, objects), ...own];
}

async function configure(options: UpOptions, settings: Settings): Promise<ClusterConfig> {
  const probing = probeIsolation(options.mode ?? settings.mode);
  if (!hasPki(options.state)) preloadAuthority();
  const isolation = await probing;
  const port = (name: string, value: string | undefined) => numberOption(name, value, 1, 65535);
  const files = options.file.length > 0 ? options.file : (settings.manifests ?? []);
  return planCluster({
    projectRoot,
    main: ownBundle ?? (await mainBundle(projectRoot)),
    stateDir: options.state,
    isolation,
    workers: numberOption("nodes", options.nodes, 1, nodesMax) ?? settings.nodes ?? 3,
    clients: numberOption("clients", options.clients, 0, clientsMax) ?? settings.clients ?? 0,
    link: options.link ?? settings.link,
    hostPorts: {
      http: port("http-port", options.httpPort) ?? settings.ports?.http ?? 8080,
      https: port("https-port", options.httpsPort) ?? settings.ports?.https ?? 8443,
      api: port("api-port", options.apiPort) ?? settings.ports?.api ?? 6443,
    },
    images: settings.images ?? {},
    manifests: manifestsOf(files),
    bundledApplication: files.length === 0,
  });
}

export async function up(options: UpOptions): Promise<void> {
  const startedMs = realClock.monotonicMs();
  const other = readRunning(options.state);
  if (other)
    throw new MeshbedError(
      "ALREADY_RUNNING",
      `a testbed already runs from ${options.state} (process ${other.supervisorPid})`,
      {
        fix: "stop it with `meshbed down`, or start this one with another --state and other ports",
      },
    );
  if (options.detach) return detach(options.state);
  const config = await configure(options, readSettings(process.cwd()));
  const paths = statePaths(config.stateDir);
  for (const folder of [paths.run, paths.logs, paths.volumes]) mkdirSync(folder, { recursive: true });
  saveConfig(config);
  const view = new UpView(config, createTerminal(), realClock, startedMs);
  view.start();
  const pkiMs = realClock.monotonicMs();
  await ensurePki(config, realClock);
  view.step("certificates", "cluster and mesh authorities", realClock.monotonicMs() - pkiMs);

  const abort = new AbortController();
  const stop = () => {
    view.stopping();
    abort.abort();
  };
  process.on("SIGINT", stop).on("SIGTERM", stop).on("SIGHUP", stop);
  try {
    await superviseCluster(config, {
      clock: realClock,
      signal: abort.signal,
      onEvent: (event) => view.event(event),
      onStarted: (sandboxPid) =>
        writeRunning(config.stateDir, { supervisorPid: process.pid, sandboxPid, startedAtMs: realClock.now() }),
    });
  } finally {
    clearRunning(config.stateDir);
    view.end();
  }
  console.log(`${paint.green("✓")} stopped; nothing is left running`);
  process.exit(0);
}
