// Starts the process that an inner verb names. Each loads only its own room, and ends when its parent does.

import { messageOf } from "../kernel/errors.ts";
import { stderrLog } from "../kernel/log.ts";
import { loadConfig } from "./config.ts";
import { emitEvent } from "./events.ts";

/** How a process is told to end. */
export interface EndOfLife {
  /** Aborts first, by whatever way. */
  asked: AbortSignal;
  /** Nobody waits any longer. */
  now: AbortSignal;
}

/**
 * SIGTERM asks. SIGINT, a second SIGTERM, or the end of standard input mean now: the parent holds the other end and may be killed
 * without a word. A gateway is a pod: its input is empty from the start, and its kubelet sees to its end.
 */
function endOfLife(watchInput = true): EndOfLife {
  const asked = new AbortController();
  const now = new AbortController();
  const end = () => {
    asked.abort();
    now.abort();
  };
  process.on("SIGTERM", () => (asked.signal.aborted ? end() : asked.abort()));
  process.on("SIGINT", end);
  if (watchInput) process.stdin.on("end", end).on("error", end).resume();
  return { asked: asked.signal, now: now.signal };
}

export async function runInner(verb: string, args: readonly string[]): Promise<void> {
  const [stateDir = process.env["MESHBED_STATE"] ?? "", name = "", how = ""] = args;
  const log = stderrLog(process.env["MESHBED_DEBUG"] ? "debug" : "info", { process: name ? `${verb}/${name}` : verb });
  process.on("unhandledRejection", (error) => log.error("unhandled rejection", { error: messageOf(error) }));
  const config = loadConfig(stateDir);
  try {
    switch (verb) {
      case "sandbox":
        await (await import("./sandbox.ts")).runSandbox(config, endOfLife().asked);
        break;
      case "control-plane":
        await (await import("./control-plane.ts")).runControlPlane(config, name === "apply", log, endOfLife().asked);
        break;
      case "kubelet":
        await (await import("./node-kubelet.ts")).runKubelet(config, name, log, endOfLife().asked);
        break;
      case "node-proxy":
        await (await import("./proxies.ts")).runNodeProxy(config, name, how === "take-over", log, endOfLife());
        break;
      case "gateway":
        await (await import("./proxies.ts")).runGateway(config, log, endOfLife(false));
        break;
    }
    process.exit(0);
  } catch (error) {
    const fix = (error as { fix?: string }).fix;
    log.error("failed", { error: messageOf(error), fix });
    if (verb === "sandbox" || verb === "control-plane")
      emitEvent({ type: "failed", message: messageOf(error), ...(fix !== undefined && { fix }) });
    process.exit(1);
  }
}
