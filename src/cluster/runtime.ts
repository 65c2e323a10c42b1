// Chooses the pod runtime that fits this machine's isolation.

import { dirname } from "node:path";
import type { Runtime } from "../host/types.ts";
import { realClock } from "../kernel/clock.ts";
import type { Log } from "../kernel/log.ts";
import { systemRandom } from "../kernel/random.ts";
import type { ClusterConfig, NodeConfig } from "./config.ts";

export async function createRuntime(config: ClusterConfig, node: NodeConfig, log: Log): Promise<Runtime> {
  const clock = realClock;
  if (config.isolation.mode === "ports") {
    const { createPortsRuntime } = await import("../host/ports-runtime.ts");
    return createPortsRuntime({ clock, log, random: systemRandom });
  }
  const { createNamespacesRuntime } = await import("../host/namespaces-runtime.ts");
  // Images are commands of this machine: pods see the project, its runtime, and whatever folders those commands run in.
  const folders = Object.values(config.images).flatMap((image) => image.workingDir ?? []);
  const sharedPaths = [...new Set([config.projectRoot, config.stateDir, dirname(process.execPath), ...folders])];
  return createNamespacesRuntime({ node, rootless: config.isolation.rootless, sharedPaths, clock, log });
}
