// The control-plane process: API server, controllers, scheduler and mesh over one store, joined in process.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { allKinds } from "../api/kinds/all.ts";
import * as resources from "../api/resources.ts";
import type { Node } from "../api/types.ts";
import { startApiServer } from "../apiserver/server.ts";
import { createClient } from "../client/client.ts";
import { createInformer } from "../client/informer.ts";
import type { Client, Informer } from "../client/types.ts";
import { startControllers } from "../controllers/controllers.ts";
import { podsCidr } from "../host/addresses.ts";
import { loadAuthority } from "../identity/authority.ts";
import { aborted } from "../kernel/abort.ts";
import { realClock } from "../kernel/clock.ts";
import type { Log } from "../kernel/log.ts";
import { systemRandom } from "../kernel/random.ts";
import { startMesh } from "../mesh/mesh.ts";
import { startScheduler } from "../scheduler/scheduler.ts";
import { openSqliteStore } from "../store/sqlite.ts";
import { reportBalancers } from "./balancers.ts";
import { type ClusterConfig, evictionDelayMs, masterOf, nodeGraceMs, statePaths } from "./config.ts";
import { serveProxyStatus } from "./control.ts";
import { emitEvent } from "./events.ts";
import { type Applied, applyManifest, readManifests } from "./manifests.ts";
import { readKeyPair } from "./pki.ts";
import { reportStatus, summarize } from "./status.ts";
import { ensureGatewayCertificate } from "./tls-secret.ts";

/** A node that is not Ready by then may be broken; the others start without it. */
const nodesWaitMaxMs = 3_000;

const clock = realClock;
const random = systemRandom;

/** Runs until `signal` aborts. `apply`: also apply the configured manifests (first start, not a restart). */
export async function runControlPlane(
  config: ClusterConfig,
  apply: boolean,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const paths = statePaths(config.stateDir);
  const master = masterOf(config);
  const clusterCaPem = readFileSync(join(paths.pki, "ca.crt"), "utf8");
  const serving = readKeyPair(paths.pki, "apiserver");
  const kubelet = readKeyPair(paths.pki, "apiserver-kubelet-client");
  const store = openSqliteStore(paths.database);
  const api = await startApiServer({
    store,
    kinds: allKinds,
    host: master.ip,
    port: config.apiPort,
    tls: {
      ...serving,
      clientCaPem: clusterCaPem,
      kubeletClientCertPem: kubelet.certPem,
      kubeletClientKeyPem: kubelet.keyPem,
    },
    clock,
    random,
    log,
  });
  emitEvent({ type: "api-ready" });
  const client = createClient(api.transport);
  const deps = { client, clock, random, log };
  const authority = await loadAuthority({ ...readKeyPair(paths.pki, "mesh-ca"), clock });
  const mesh = await startMesh({
    client,
    authority,
    adsHost: master.ip,
    adsPort: config.adsPort,
    adsPlainPort: config.adsPlainPort,
    adsTls: { ca: clusterCaPem, cert: serving.certPem, key: serving.keyPem },
    clock,
    log,
    mode: config.isolation.mode,
  });
  const stopAnswering = serveProxyStatus(() => mesh.proxyStatus());
  const controllers = startControllers({
    ...deps,
    nodeGraceMs,
    evictionDelayMs,
    volumesDir: paths.volumes,
    nodeCidr: podsCidr,
    clusterCaPem,
    mode: config.isolation.mode,
  });
  const nodes = createInformer(deps, resources.nodes);
  const serviceCache = createInformer(deps, resources.services);
  const stopBalancers = reportBalancers(serviceCache, nodes, clock);
  const stopStatus = reportStatus(nodes, createInformer(deps, resources.pods), clock);
  const [scheduler] = await Promise.all([
    // The first node to register would otherwise get every pod.
    allReady(nodes, config.nodes.length).then(() => startScheduler(deps)),
    apply ? applyAll(config, client) : undefined,
  ]);

  await aborted(signal);
  stopAnswering();
  stopStatus();
  stopBalancers();
  serviceCache.stop();
  scheduler.stop();
  controllers.stop();
  await mesh.close();
  await api.close();
  store.close();
}

/** Resolves when this many nodes are Ready, or after nodesWaitMaxMs. */
function allReady(nodes: Informer<Node>, count: number): Promise<void> {
  return new Promise((resolve) => {
    const finish = () => {
      cancel();
      unsubscribe();
      resolve();
    };
    const check = () => {
      if (summarize(nodes.list(), []).nodes.ready >= count) finish();
    };
    const cancel = clock.after(nodesWaitMaxMs, finish);
    const unsubscribe = nodes.onChange(check);
    check();
  });
}

/** Installs what a cluster has before its applications, then the applications. A refused manifest fails the start, with its place. */
async function applyAll(config: ClusterConfig, client: Client): Promise<void> {
  const byKind = new Map(
    allKinds.flatMap((kind) =>
      kind.servedVersions.map((version) => [
        `${kind.group === "" ? version : `${kind.group}/${version}`} ${kind.kind}`,
        kind,
      ]),
    ),
  );
  const resourceOf = (apiVersion: string, kind: string) => byKind.get(`${apiVersion} ${kind}`);
  await removeForeignNodes(config, client);
  const counts: Record<Applied, number> = { created: 0, configured: 0, unchanged: 0 };
  let certificateDone = false;
  for (const file of config.manifests)
    for (const manifest of readManifests(file)) {
      counts[await applyManifest(client, manifest, resourceOf)]++;
      if (!certificateDone) certificateDone = await ensureGatewayCertificate(client, clock);
    }
  emitEvent({ type: "manifests-applied", ...counts });
}

/** Nodes of an earlier start with other machines would stay NotReady for ever. */
async function removeForeignNodes(config: ClusterConfig, client: Client): Promise<void> {
  const names = new Set(config.nodes.map((node) => node.name));
  for (const node of (await client.list(resources.nodes)).items)
    if (!names.has(node.metadata.name)) await client.delete(resources.nodes, undefined, node.metadata.name);
}
