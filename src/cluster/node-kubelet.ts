// The node agent process: kubelet, runtime and DNS of one node.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createClient } from "../client/client.ts";
import { httpTransport } from "../client/http.ts";
import { aborted } from "../kernel/abort.ts";
import { realClock } from "../kernel/clock.ts";
import type { Log } from "../kernel/log.ts";
import { systemRandom } from "../kernel/random.ts";
import { startKubelet } from "../kubelet/kubelet.ts";
import { type ClusterConfig, clusterDomain, dnsAddress, masterOf, nodeOf, statePaths } from "./config.ts";
import { imageCatalogue } from "./images.ts";
import { readKeyPair } from "./pki.ts";
import { createRuntime } from "./runtime.ts";

/** As kubeadm sets it: ordinary pods stay off the master. */
const controlPlaneTaint = { key: "node-role.kubernetes.io/control-plane", effect: "NoSchedule" } as const;

export async function runKubelet(config: ClusterConfig, name: string, log: Log, signal: AbortSignal): Promise<void> {
  const node = nodeOf(config, name);
  const paths = statePaths(config.stateDir);
  const caPem = readFileSync(join(paths.pki, "ca.crt"), "utf8");
  const pair = readKeyPair(paths.pki, `node-${name}`);
  const isolated = config.isolation.mode === "namespaces";
  const kubelet = await startKubelet({
    nodeName: name,
    nodeIndex: node.index,
    nodeIp: node.ip,
    podCidrPrefix: `10.244.${node.index}`,
    roles: [node.role],
    client: createClient(httpTransport({ server: `https://${masterOf(config).ip}:${config.apiPort}`, caPem, ...pair })),
    runtime: await createRuntime(config, node, log),
    images: imageCatalogue(config),
    stateDir: paths.node(name),
    volumesDir: paths.volumes,
    // The sandbox has no way out, so outside names fail at once.
    dns: isolated ? { address: dnsAddress, port: 53, upstreams: [] } : undefined,
    clusterDomain,
    server: { port: isolated ? 10250 : 0, ...pair, clientCaPem: caPem },
    ...(node.role === "control-plane" && { taints: [controlPlaneTaint] }),
    clock: realClock,
    random: systemRandom,
    log,
  });
  await aborted(signal);
  await kubelet.stop();
}
