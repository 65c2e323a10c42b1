// The node agent: follows the pods bound to its node and keeps one worker for each; serves DNS, logs and the node's heartbeat.

import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { keyOf } from "../api/object.ts";
import { pods, services } from "../api/resources.ts";
import type { Pod } from "../api/types.ts";
import { createEventRecorder } from "../client/event-recorder.ts";
import { createInformer } from "../client/informer.ts";
import { Metrics } from "../kernel/metrics.ts";
import { AddressPool } from "./addresses.ts";
import { ConfigObjects } from "./config-objects.ts";
import { createZoneData, serviceIndexes } from "./dns-data.ts";
import { createOutsideNames, type OutsideNames } from "./dns-outside.ts";
import { type DnsServer, startDnsServer } from "./dns-server.ts";
import { createKubeletMetrics } from "./kubelet-metrics.ts";
import { type DnsSetting, parseResolvConf } from "./network-files.ts";
import { afterContact, startNodeAgent } from "./node-agent.ts";
import { allocatableOf, machineFacts } from "./node-object.ts";
import type { NodeContext } from "./pod-setup.ts";
import { PodWorker } from "./pod-worker.ts";
import { type KubeletServer, startServer } from "./server.ts";
import { StatusWriter } from "./status-writer.ts";
import type { Kubelet, KubeletOptions } from "./types.ts";

/** On stop, containers have this long between SIGTERM and SIGKILL. */
const stopGraceMs = 1_000;

/** Up as soon as its servers listen: node and pods follow in the background, whenever the API server is there. */
export async function startKubelet(options: KubeletOptions): Promise<Kubelet> {
  const { client, clock, log, nodeName, runtime, stateDir } = options;
  mkdirSync(join(stateDir, "volumes"), { recursive: true });
  const facts = machineFacts();
  const machineDns = readMachineDns();
  const cleanedUp = runtime.cleanUp();
  const metrics = new Metrics();
  const kubeletMetrics = createKubeletMetrics(metrics);
  const noOutside = options.dns?.upstreams?.length === 0;
  const workers = new Map<string, PodWorker>();
  const recorder = createEventRecorder({ client, component: "kubelet", host: nodeName, clock, log });
  const contact = Promise.withResolvers<void>();
  const informed = { clock, log, random: options.random, client: afterContact(client, contact.promise) };
  const serviceInformer = createInformer(informed, services, {}, serviceIndexes);
  const zone = createZoneData(serviceInformer, informed);
  const context: NodeContext = {
    options,
    addresses: new AddressPool(options.podCidrPrefix, join(stateDir, "addresses.json")),
    config: new ConfigObjects(informed),
    services: serviceInformer,
    status: new StatusWriter(client, clock, log),
    events: (pod) => (type, reason, message) => recorder.record(pod, type, reason, message),
    // With no resolver outside, pods with the machine's DNS get a quick refusal from the node's instead of silence.
    machineDns: noOutside ? { ...machineDns, nameservers: [options.dns!.address] } : machineDns,
    metrics: kubeletMetrics,
    allocatable: allocatableOf(facts),
  };
  await cleanedUp;
  const outside = createOutsideNames(informed, (ip) => workers.get(context.addresses.holderOf(ip) ?? "")?.pod);
  const dns = await startDns(options, zone, outside, machineDns);
  const server = startApi(options, workers, metrics);
  const agent = startNodeAgent({ ...options, client: informed.client }, facts, server?.port, contact.resolve);
  const podInformer = createInformer(informed, pods, { fieldSelector: `spec.nodeName=${nodeName}` });
  const { runningPods } = kubeletMetrics;
  podInformer.onChange((current, old) => {
    if (old !== undefined && old.metadata.uid !== current?.metadata.uid) workers.get(old.metadata.uid)?.removed();
    if (current === undefined) return;
    const known = workers.get(current.metadata.uid);
    if (known !== undefined) known.update(current);
    else {
      const uid = current.metadata.uid;
      const done = () => {
        workers.delete(uid);
        runningPods.value = workers.size;
      };
      workers.set(uid, new PodWorker(context, current, done));
      runningPods.value = workers.size;
    }
  });
  void podInformer.synced.then(() => {
    const alive = new Set([...podInformer.list().map((pod) => pod.metadata.uid), ...workers.keys()]);
    forgetOthers(context, alive);
  });
  log.info("kubelet started", { node: nodeName, mode: runtime.mode });
  return {
    port: server?.port,
    async stop() {
      podInformer.stop();
      agent.stop();
      serviceInformer.stop();
      zone.stop();
      outside.stop();
      context.status.stop();
      context.config.stop();
      dns?.close();
      await Promise.all([...workers.values()].map((worker) => worker.shutDown(stopGraceMs)));
      await server?.stop();
    },
  };
}

/** What pods left on disk that were deleted while no kubelet ran. */
function forgetOthers(context: NodeContext, alive: ReadonlySet<string>): void {
  context.addresses.retain(alive);
  const { stateDir } = context.options;
  for (const uid of entries(join(stateDir, "volumes")))
    if (!alive.has(uid)) rmSync(join(stateDir, "volumes", uid), { recursive: true, force: true });
  for (const name of entries(join(stateDir, "logs", "pods")))
    if (!alive.has(name.slice(name.lastIndexOf("_") + 1)))
      rmSync(join(stateDir, "logs", "pods", name), { recursive: true, force: true });
}

function entries(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function readMachineDns(): DnsSetting {
  try {
    return parseResolvConf(readFileSync("/etc/resolv.conf", "utf8"));
  } catch {
    return { nameservers: [], searches: [], options: [] };
  }
}

function startDns(
  { dns, clusterDomain, clock, random, log }: KubeletOptions,
  data: ReturnType<typeof createZoneData>,
  outside: OutsideNames,
  machine: DnsSetting,
): Promise<DnsServer> | undefined {
  if (dns === undefined) return undefined;
  // A loopback resolver of the machine is not reachable from a node's own network namespace.
  const usable = machine.nameservers.filter((ip) => ip !== dns.address && !ip.startsWith("127.") && !ip.includes(":"));
  const upstreams = dns.upstreams ?? usable;
  return startDnsServer({
    address: dns.address,
    port: dns.port ?? 53,
    upstreams,
    zone: clusterDomain,
    data,
    outside: (name, from) => outside.addresses(name, from),
    clock,
    random,
    log,
  });
}

function startApi(
  options: KubeletOptions,
  workers: Map<string, PodWorker>,
  metrics: Metrics,
): KubeletServer | undefined {
  if (options.server === undefined) return undefined;
  return startServer({
    ...options.server,
    host: options.nodeIp,
    clock: options.clock,
    metrics,
    pods: () => [...workers.values()].map(withStatus),
    find(namespace, name) {
      for (const worker of workers.values())
        if (keyOf(worker.pod) === `${namespace}/${name}`)
          return {
            hasContainer: (container) => worker.hasContainer(container),
            logPath: (container, previous) => worker.logPath(container, previous),
            isRunning: (container) => worker.isRunning(container),
          };
      return undefined;
    },
  });
}

function withStatus(worker: PodWorker): Pod {
  const { status } = worker;
  return status === undefined ? worker.pod : { ...worker.pod, status };
}
