// The data-plane processes: a node's proxy with its virtual sidecars, and a gateway running as a pod.

import { Resolver } from "node:dns/promises";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";
import { podGatewayOfNode } from "../host/addresses.ts";
import { aborted } from "../kernel/abort.ts";
import { realClock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import { systemRandom } from "../kernel/random.ts";
import type { Resolve } from "../proxy/clusters/dns.ts";
import { startProxy } from "../proxy/proxy.ts";
import type { DrainTimes } from "../proxy/types.ts";
import { connectAds } from "../xds/client.ts";
import {
  type ClusterConfig,
  clusterDomain,
  dnsAddress,
  masterOf,
  type NodeConfig,
  nodeOf,
  statePaths,
} from "./config.ts";
import { emitEvent } from "./events.ts";
import type { EndOfLife } from "./inner.ts";
import { readKeyPair } from "./pki.ts";

const clock = realClock;
const random = systemRandom;

/** The node's DNS, which tells proxies what is outside where it tells pods the addresses that lead to them. */
function nodeResolve(): Resolve {
  const resolver = new Resolver({ timeout: 2_000, tries: 2 });
  resolver.setServers([dnsAddress]);
  return async (host) => (isIP(host) === 0 ? resolver.resolve4(host) : [host]);
}

interface Identity {
  role: "node" | "router";
  nodeId: string;
  ip: string;
  adminPort: number;
  takesOver?: boolean;
  drain?: Partial<DrainTimes>;
}

async function runProxy(
  config: ClusterConfig,
  node: NodeConfig,
  identity: Identity,
  log: Log,
  end: EndOfLife,
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
  const { role, nodeId, ip, adminPort, takesOver = false } = identity;
  const { mode } = config.isolation;
  const bindMode = {
    nodeIp: ip,
    mode,
    ...(identity.role === "node" && mode === "namespaces" && { podGateway: podGatewayOfNode(ip) }),
  };
  const proxy = await startProxy({
    role,
    nodeId,
    bindMode,
    xds,
    admin: { host: ip, port: adminPort },
    ...(mode === "namespaces" && { resolve: nodeResolve() }),
    takesOver,
    clock,
    random,
    log,
  });
  if (takesOver) void proxy.serving.then(() => emitEvent({ type: "serving" }));
  await aborted(end.asked);
  if (!end.now.aborted) await Promise.race([proxy.drain(identity.drain), aborted(end.now)]);
  await proxy.close();
}

/** `takesOver`: another process of this node's proxy serves, and goes when this one does. */
export function runNodeProxy(
  config: ClusterConfig,
  name: string,
  takesOver: boolean,
  log: Log,
  end: EndOfLife,
): Promise<void> {
  const node = nodeOf(config, name);
  const nodeId = `node~${node.ip}~${node.name}~${clusterDomain}`;
  return runProxy(config, node, { role: "node", nodeId, ip: node.ip, adminPort: node.adminPort, takesOver }, log, end);
}

/** Clients find the other gateways within this time once the pod's end is known. */
const gatewayAcceptMs = 1_000;
/** As Istio's agent: TERMINATION_DRAIN_DURATION_SECONDS, 5 when it is not set. */
const terminationDrainS = 5;

/** A gateway pod: what Istio's injection puts into the environment says which pod it is. */
export function runGateway(config: ClusterConfig, log: Log, end: EndOfLife): Promise<void> {
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
  const drainS = Number(process.env["TERMINATION_DRAIN_DURATION_SECONDS"] ?? terminationDrainS);
  const drain = { acceptMs: gatewayAcceptMs, drainMs: (Number.isFinite(drainS) ? drainS : terminationDrainS) * 1_000 };
  return runProxy(
    config,
    nodeOf(config, variable("NODE_NAME")),
    { role: "router", nodeId, ip, adminPort, drain },
    log,
    end,
  );
}
