// A pod's network: a namespace with one link to its node, on which the node answers for every address.
// Runs in the node's network namespace, inside the sandbox.

import { readdirSync } from "node:fs";
import type { Clock } from "../kernel/clock.ts";
import { mustRun } from "./process.ts";
import { podRoutesTable } from "./topology.ts";

const namespacesDir = "/run/netns";

/** Node names have no underscore, so no node's prefix is another's. */
export const podNamespace = (node: string, podId: string) => `${node}_${podId}`;

/** Interface names hold 15 characters: 10.244.1.5 → p10-244-1-5. */
const linkName = (podIp: string) => `p${podIp.replaceAll(".", "-")}`;

/** Ports below 1024 are a pod's own to bind; its ephemeral ports keep clear of the mesh's (15000–15100). */
const podSysctls = `cd /proc/sys/net
echo 1 > ipv6/conf/eth0/disable_ipv6
echo 0 > ipv4/ip_unprivileged_port_start
echo "16384 65535" > ipv4/ip_local_port_range
echo 1 > ipv4/tcp_tw_reuse
echo 4096 > core/somaxconn`;

/** Gives a pod its namespace and address. Throws POD_NETWORK_FAILED. */
export async function addPodNetwork(name: string, podIp: string, nodeIp: string, clock: Clock): Promise<void> {
  const link = linkName(podIp);
  const script = `ip -batch - <<'END' || exit 1
netns add ${name}
link add ${link} type veth peer name eth0 netns ${name}
link set ${link} up
route add ${podIp}/32 dev ${link} src ${nodeIp} table ${podRoutesTable}
END
exec nsenter --net=${namespacesDir}/${name} -- sh -c '(${podSysctls}) 2>/dev/null
exec ip -batch - <<END
link set lo up
addr add ${podIp}/32 dev eth0
link set eth0 up
route add ${nodeIp} dev eth0
route add default via ${nodeIp}
END'`;
  await mustRun(["/bin/sh", "-c", script], "POD_NETWORK_FAILED", clock);
}

/** Takes it away again; what is already gone is no error. The address may be given to another pod at once. */
export async function removePodNetwork(name: string, podIp: string, clock: Clock): Promise<void> {
  const script = `ip link del ${linkName(podIp)} 2>/dev/null; ip netns del ${name} 2>/dev/null; exit 0`;
  await mustRun(["/bin/sh", "-c", script], "POD_NETWORK_FAILED", clock);
}

/** Removes the networks of every pod of this node: what a killed kubelet left. */
export async function removeAllPodNetworks(node: string, clock: Clock): Promise<number> {
  const names = readdirSync(namespacesDir).filter((name) => name.startsWith(podNamespace(node, "")));
  if (names.length === 0) return 0;
  // /sys shows the links of the namespace it was mounted in; the routing table is the one at hand.
  const script = `ip route show table ${podRoutesTable} | while read -r to dev link rest; do
  case "$dev $link" in "dev p10-244-"*) ip link del "$link" 2>/dev/null;; esac
done
for n in ${names.join(" ")}; do ip netns del $n 2>/dev/null; done
exit 0`;
  await mustRun(["/bin/sh", "-c", script], "POD_NETWORK_FAILED", clock);
  return names.length;
}
