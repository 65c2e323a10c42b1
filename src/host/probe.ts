// Finds out by trying whether this machine can give pods namespaces and links of their own.

import { realClock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { findTool, runCommand } from "./process.ts";
import { prepareScript, runDir, sandboxArgv } from "./sandbox.ts";
import type { Isolation, IsolationMode } from "./types.ts";

const tools = ["unshare", "setpriv", "nsenter", "mount", "umount", "pivot_root", "ip", "tc"];

/** Everything the namespaces mode needs of the kernel, in one breath: overlay, links, a limit, a process file system. */
const trial = `(${prepareScript}) 2>/dev/null || { echo 'mounts are refused'; exit 1; }
set -e
cd ${runDir}; mkdir l u w r n
mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w"$1" r 2>/dev/null || { echo 'this kernel refuses overlay mounts'; exit 1; }
mount -t proc p n 2>/dev/null || { echo 'mounting /proc is refused'; exit 1; }
ip link add br0 type bridge 2>&1 || { echo '(no bridge)'; exit 1; }
ip netns add t 2>&1
ip link add m0 type veth peer name eth0 netns t 2>&1 || { echo '(no veth pair)'; exit 1; }`;

const trialTimeoutMs = 5000;

/** Undefined when it worked, else why not. */
async function tryNamespaces(rootless: boolean): Promise<string | undefined> {
  const argv = ["/bin/sh", "-c", trial, "sh", rootless ? ",userxattr" : ""];
  const result = await runCommand(sandboxArgv({ mode: "namespaces", rootless, reason: "" }, argv), {
    clock: realClock,
    timeoutMs: trialTimeoutMs,
  });
  if (result.code === 0) return undefined;
  if (result.timedOut) return "the trial did not end in time";
  return result.output.trim().replace(/\s*\n\s*/g, " ") || `exit code ${result.code}`;
}

async function whyNoNamespaces(): Promise<{ rootless: boolean } | string> {
  if (process.platform !== "linux") return "namespaces exist only on Linux";
  const missing = tools.filter((name) => !findTool(name));
  if (missing.length > 0) return `not installed: ${missing.join(", ")} (packages util-linux and iproute2)`;
  const isRoot = process.geteuid?.() === 0;
  const asRoot = isRoot ? await tryNamespaces(false) : "";
  if (asRoot === undefined) return { rootless: false };
  // Root without CAP_SYS_ADMIN, as in a plain container, may still be allowed a user namespace.
  const asUser = await tryNamespaces(true);
  if (asUser === undefined) return { rootless: true };
  return isRoot ? asRoot : `unprivileged namespaces do not work: ${asUser}`;
}

/**
 * How this machine isolates pods. `forced` skips the choice, not the trial.
 * Throws ISOLATION_UNAVAILABLE when namespaces are forced and impossible.
 */
export async function probeIsolation(forced?: IsolationMode): Promise<Isolation> {
  if (forced === "ports")
    return { mode: "ports", rootless: false, reason: "ports mode was asked for: no namespaces, no link limits" };
  const result = await whyNoNamespaces();
  if (typeof result === "object") {
    const how = result.rootless ? "unprivileged user namespaces" : "root";
    return {
      mode: "namespaces",
      rootless: result.rootless,
      reason: `pods get namespaces and links of their own (${how})`,
    };
  }
  if (forced === "namespaces")
    throw new MeshbedError("ISOLATION_UNAVAILABLE", `namespaces were asked for, but ${result}`, {
      fix: "run as root, allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0), or use `--mode ports`",
    });
  return { mode: "ports", rootless: false, reason: `ports on 127.0.0.1, without link limits, because ${result}` };
}
