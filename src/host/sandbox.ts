// The sandbox every process of a testbed lives in: namespaces that the kernel removes when the process that made them ends.

import type { Clock } from "../kernel/clock.ts";
import { mustRun, toolPath } from "./process.ts";
import type { Isolation } from "./types.ts";

/**
 * Process 1 of a process namespace. A shell waits for any child while its command runs in the foreground, so it
 * reaps what others leave behind, in 1 MB. It ends with its command's status, and everything else with it. Its own
 * standard error is closed, or it would print "Terminated" into its command's.
 */
export const initScript = 'exec 9>&2 2>/dev/null; (exec 2>&9 9>&-; exec "$@"); exit $?';

/**
 * The command line that runs `argv` in namespaces of its own (network, mounts, processes; users too when rootless).
 * Whoever dies in the chain parent → unshare → init → argv, by whatever signal, takes everything after it along:
 * pdeathsig ties unshare to the parent, --kill-child ties init to unshare, and the kernel ends a process
 * namespace with its init. Standard streams and further descriptors are passed through.
 */
export function sandboxArgv(isolation: Isolation, argv: readonly string[]): string[] {
  return [
    toolPath("setpriv"),
    "--pdeathsig",
    "KILL",
    "--",
    toolPath("unshare"),
    ...(isolation.rootless ? ["--user", "--map-root-user"] : []),
    "--net",
    "--mount",
    "--pid",
    "--ipc",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "/bin/sh",
    "-c",
    initScript,
    "sh",
    ...argv,
  ];
}

/** Folder of this room inside the sandbox, in memory: gone with it. */
export const runDir = "/run/meshbed";

/** Device nodes a pod gets; anything else in /dev is the host's affair. */
const devices = ["null", "zero", "full", "random", "urandom", "tty"];

const deviceMounts = devices.map((name) => `/dev/${name} ${runDir}/dev/${name} none bind 0 0`).join("\n");

/** Also used by the probe, so that what was tried is what runs. */
export const prepareScript = `set -e
mount -t tmpfs -o mode=755 meshbed /run
mkdir -p /run/netns /run/lock ${runDir}/dev/pts ${runDir}/dev/shm ${runDir}/pods
cd ${runDir}/dev
for f in ${devices.join(" ")}; do : > $f; done
ln -s /proc/self/fd fd; ln -s fd/0 stdin; ln -s fd/1 stdout; ln -s fd/2 stderr; ln -s pts/ptmx ptmx
cd /
echo '${deviceMounts}' > ${runDir}/devices
mount -a -T ${runDir}/devices
ip link set lo up
set +e
cd /proc/sys/net
echo 1 > ipv6/conf/default/disable_ipv6
echo 1 > ipv4/ip_forward
echo 0 > ipv4/ip_unprivileged_port_start
echo "16384 65535" > ipv4/ip_local_port_range
echo "30000-32767" > ipv4/ip_local_reserved_ports
echo 16384 > core/somaxconn
exit 0`;

/** The first thing the process inside does: a /run of its own, device nodes for pods, loopback, kernel settings. */
export async function prepareSandbox(clock: Clock): Promise<void> {
  await mustRun(["/bin/sh", "-c", prepareScript], "SANDBOX_SETUP_FAILED", clock);
}
