// A proxy that runs alone: its whole configuration is an Envoy bootstrap file, read at the start and whenever it is asked to.

import { readFileSync } from "node:fs";
import { type DescMessage, equals, type Message } from "@bufbuild/protobuf";
import { BootstrapSchema } from "#gen/xds/envoy/config/bootstrap/v3/bootstrap_pb.js";
import { ClusterSchema } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { ListenerSchema } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import { SecretSchema } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { realClock } from "../kernel/clock.ts";
import { MeshbedError, messageOf } from "../kernel/errors.ts";
import { type LogLevel, stderrLog } from "../kernel/log.ts";
import { systemRandom } from "../kernel/random.ts";
import { readBootstrap, type StaticConfig } from "../proxy/bootstrap/bootstrap.ts";
import { startProxy } from "../proxy/proxy.ts";
import type { RunningProxy } from "../proxy/types.ts";
import { connectMemory, memorySnapshots } from "../xds/memory.ts";
import { type NamedResource, type Snapshot, type TypeUrl, typeUrls } from "../xds/types.ts";

const clock = realClock;
/** Clusters that resolve names or wait for a first health check may take this long before their listeners serve. */
const settleMaxMs = 10_000;
const settlePollMs = 2;

/** Throws CONFIG_UNREADABLE or CONFIG_INVALID. */
export function loadConfig(file: string): StaticConfig {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new MeshbedError("CONFIG_UNREADABLE", `${file} cannot be read: ${messageOf(error)}`);
  }
  return readBootstrap(text, file, process.env);
}

export interface Standalone {
  readonly proxy: RunningProxy;
  /** Takes the file's new contents. Throws, changing nothing, when they are not valid. What cannot change while running is told in `notices`. */
  reload(): Promise<{ config: StaticConfig; notices: string[] }>;
}

/** Resolves when every listener serves. `quit` is called when the admin page asks for the end. */
export async function startStandalone(
  file: string,
  first: StaticConfig,
  logLevel: LogLevel,
  quit: () => void,
): Promise<Standalone> {
  const log = stderrLog(logLevel);
  process.on("unhandledRejection", (error) => log.error("unhandled rejection", { error: messageOf(error) }));
  let config = first;
  let readAtMs = clock.now();
  let snapshot = snapshotOf(config, undefined);
  const snapshots = memorySnapshots();
  const nodeId = config.node.id || "standalone";
  snapshots.set(nodeId, snapshot);
  const { admin, node } = config;
  const bootstrap = () => ({ schema: BootstrapSchema, message: config.bootstrap, readAtMs });
  const proxy = await startProxy({
    role: "router",
    nodeId,
    bindMode: { nodeIp: "127.0.0.1", mode: "ports" },
    xds: connectMemory({ source: snapshots, log, clock }),
    admin: admin && { ...admin, standalone: { configPath: file, cluster: node.cluster, bootstrap, logLevel, quit } },
    clock,
    random: systemRandom,
    log,
  }).catch((error: unknown) => {
    throw cannotListen(admin ? `${admin.host}:${admin.port}` : "", messageOf(error));
  });
  await settled(proxy);
  const [failure] = proxy.bindFailures();
  if (failure !== undefined) {
    await proxy.close();
    throw cannotListen(...failure);
  }
  return {
    proxy,
    async reload() {
      const next = loadConfig(file);
      const notices = [...next.notices, ...restartNotices(config, next)];
      snapshot = snapshotOf(next, snapshot);
      config = next;
      readAtMs = clock.now();
      snapshots.set(nodeId, snapshot);
      // The change goes round by microtasks; one turn of the event loop lets it arrive.
      await clock.sleep(0);
      await settled(proxy);
      for (const [address, reason] of proxy.bindFailures()) notices.push(cannotListen(address, reason).message);
      return { config, notices };
    },
  };
}

async function settled(proxy: RunningProxy): Promise<void> {
  const deadlineMs = clock.monotonicMs() + settleMaxMs;
  while (!proxy.isSettled() && proxy.bindFailures().size === 0 && clock.monotonicMs() < deadlineMs)
    await clock.sleep(settlePollMs);
}

function cannotListen(address: string, reason: string): MeshbedError {
  const isPrivileged = Number(/:(\d+)\D*$/.exec(address)?.[1]) < 1024;
  return new MeshbedError("CANNOT_LISTEN", `cannot listen on ${address}: ${reason}`, {
    fix: isPrivileged
      ? "ports below 1024 need root; or take another port"
      : "another process has this port (ss -ltnp says which), or the address is not this machine's",
  });
}

function restartNotices(before: StaticConfig, after: StaticConfig): string[] {
  const changed = (what: "admin" | "node"): string[] =>
    JSON.stringify(before[what]) === JSON.stringify(after[what]) ? [] : [`${what} has changed: that needs a restart`];
  return [...changed("admin"), ...changed("node")];
}

const kinds: readonly [TypeUrl, DescMessage, "listeners" | "clusters" | "secrets"][] = [
  [typeUrls.listener, ListenerSchema, "listeners"],
  [typeUrls.cluster, ClusterSchema, "clusters"],
  [typeUrls.secret, SecretSchema, "secrets"],
];

let versions = 0;

/** What has not changed stays the same message, so that the proxy leaves it alone. */
function snapshotOf(config: StaticConfig, before: Snapshot | undefined): Snapshot {
  const version = String(++versions);
  const resources: Partial<Record<TypeUrl, { version: string; resources: NamedResource[] }>> = {
    [typeUrls.route]: { version, resources: [] },
    [typeUrls.endpoint]: { version, resources: [] },
  };
  for (const [typeUrl, schema, kind] of kinds) {
    const known = new Map(before?.resources[typeUrl]?.resources.map(({ name, message }) => [name, message]));
    const keep = (name: string, message: Message): Message => {
      const old = known.get(name);
      return old && equals(schema, old, message) ? old : message;
    };
    resources[typeUrl] = {
      version,
      resources: config[kind].map((message) => ({ name: message.name, message: keep(message.name, message) })),
    };
  }
  return { resources };
}
