// Turns what a person asked for into a complete configuration: machine names, addresses, ports.

import { clientIp, nodeIp } from "../host/addresses.ts";
import type { Isolation } from "../host/types.ts";
import { MeshbedError } from "../kernel/errors.ts";
import type { ClusterConfig, ImageCatalogue, NodeConfig } from "./config.ts";
import { parseRate } from "./settings.ts";

export interface ClusterRequest {
  projectRoot: string;
  main: string;
  stateDir: string;
  isolation: Isolation;
  workers: number;
  clients: number;
  /** tc's notation; undefined for unlimited. */
  link: string | undefined;
  hostPorts: { http: number; https: number; api: number };
  images: ImageCatalogue;
  manifests: string[];
  bundledApplication: boolean;
}

/** A port nobody listens on now, on 127.0.0.1. */
function freePort(): number {
  const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = probe;
  probe.stop(true);
  return port;
}

function requireFree(name: string, port: number): void {
  try {
    Bun.listen({ hostname: "127.0.0.1", port, socket: { data() {} } }).stop(true);
  } catch {
    throw new MeshbedError("PORT_TAKEN", `port ${port} on localhost is taken by another program`, {
      fix: `choose another one with --${name}-port (find the holder with: ss -ltnp 'sport = :${port}')`,
    });
  }
}

/** Throws PORT_TAKEN, LINK_INVALID or LINK_UNSUPPORTED before anything was started. */
export function planCluster(request: ClusterRequest): ClusterConfig {
  const { isolation, link } = request;
  const isolated = isolation.mode === "namespaces";
  const linkBitsPerSecond = link === undefined ? undefined : parseRate(link);
  if (link !== undefined && linkBitsPerSecond === undefined)
    throw new MeshbedError("LINK_INVALID", `--link ${link}: not a rate`, { fix: 'write "1gbit" or "100mbit"' });
  if (!isolated && (link !== undefined || request.clients > 0))
    throw new MeshbedError("LINK_UNSUPPORTED", "links and client machines exist only with namespaces", {
      fix: `leave out --link and --clients (${isolation.reason})`,
    });
  for (const [name, port] of Object.entries(request.hostPorts)) requireFree(name, port);
  const nodes = Array.from(
    { length: request.workers + 1 },
    (_, index): NodeConfig => ({
      name: index === 0 ? "master" : `worker${index}`,
      index,
      ip: isolated ? nodeIp(index) : "127.0.0.1",
      role: index === 0 ? "control-plane" : "worker",
      adminPort: isolated ? 15020 : freePort(),
    }),
  );
  const clients = Array.from({ length: request.clients }, (_, i) => ({
    name: `client${i + 1}`,
    ip: clientIp(i),
  }));
  return {
    projectRoot: request.projectRoot,
    main: request.main,
    stateDir: request.stateDir,
    isolation,
    nodes,
    clients,
    linkBitsPerSecond,
    hostPorts: request.hostPorts,
    apiPort: isolated ? 6443 : freePort(),
    adsPort: isolated ? 15012 : freePort(),
    adsPlainPort: isolated ? 15010 : freePort(),
    images: request.images,
    manifests: request.manifests,
    bundledApplication: request.bundledApplication,
  };
}
