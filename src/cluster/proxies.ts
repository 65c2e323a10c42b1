// The data-plane processes: a node's proxy with its virtual sidecars, and a gateway running as a pod.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { aborted } from "../kernel/abort.ts";
import { realClock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import { systemRandom } from "../kernel/random.ts";
import { startProxy } from "../proxy/proxy.ts";
import { connectAds } from "../xds/client.ts";
import { type ClusterConfig, clusterDomain, masterOf, type NodeConfig, nodeOf, statePaths } from "./config.ts";
import { readKeyPair } from "./pki.ts";

const clock = realClock;
const random = systemRandom;

async function runProxy(
  config: ClusterConfig,
  node: NodeConfig,
  identity: { role: "node" | "router"; nodeId: string; ip: string; adminPort: number },
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const { pki } = statePaths(config.stateDir);
  const { certPem, keyPem } = readKeyPair(pki, `node-${node.name}`);
  const xds = connectAds({
    address: `${masterOf(config).ip}:${config.adsPort}`,
    tls: { ca: readFileSync(join(pki, "ca.crt"), "utf8"), cert: certPem, key: keyPem },
    log,
    clock,
    random,
  });
  const { role, nodeId, ip, adminPort } = identity;
  const bindMode = { nodeIp: ip, mode: config.isolation.mode };
  const proxy = await startProxy({
    role,
    nodeId,
    bindMode,
    xds,
    admin: { host: ip, port: adminPort },
    clock,
    random,
    log,
  });
  await aborted(signal);
  await proxy.close();
}

export function runNodeProxy(config: ClusterConfig, name: string, log: Log, signal: AbortSignal): Promise<void> {
  const node = nodeOf(config, name);
  const nodeId = `node~${node.ip}~${node.name}~${clusterDomain}`;
  return runProxy(config, node, { role: "node", nodeId, ip: node.ip, adminPort: node.adminPort }, log, signal);
}

/** A gateway pod: what Istio's injection puts into the environment says which pod it is. */
export function runGateway(config: ClusterConfig, log: Log, signal: AbortSignal): Promise<void> {
  const variable = (name: string): string => {
    const value = process.env[name];
    if (!value)
      throw new MeshbedError("GATEWAY_ENVIRONMENT", `$${name} is not set`, {
        fix: "a gateway runs as a pod with image 'auto' (see testbed/40-gateway.yaml), not by hand",
      });
    return value;
  };
  const [pod, namespace, ip] = [variable("POD_NAME"), variable("POD_NAMESPACE"), variable("INSTANCE_IP")];
  const nodeId = `router~${ip}~${pod}.${namespace}~${namespace}.svc.${clusterDomain}`;
  // Istio's health port of gateways; in `ports` mode every process shares one address, so any free one.
  const adminPort = config.isolation.mode === "namespaces" ? 15021 : 0;
  return runProxy(
    config,
    nodeOf(config, variable("NODE_NAME")),
    { role: "router", nodeId, ip, adminPort },
    log,
    signal,
  );
}
