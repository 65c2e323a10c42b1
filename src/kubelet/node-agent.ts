// Registers the node and keeps its lease and Ready condition fresh, through any absence of the API server.

import { leases, nodes } from "../api/resources.ts";
import type { Node } from "../api/types.ts";
import { createInformer } from "../client/informer.ts";
import { ApiError, type Client, isAlreadyExists, isNotFound } from "../client/types.ts";
import { microTimestamp, timestamp } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import { type MachineFacts, nodeDraft, nodeLabels, nodeStatus } from "./node-object.ts";
import type { KubeletOptions } from "./types.ts";

export const leaseNamespace = "kube-node-lease";
const renewEveryMs = 1_000;
/** As the kubelet's: how long others may believe in a lease that is not renewed. */
const leaseSeconds = 40;
/** The status is written again after this long although nothing changed. */
const statusEveryMs = 60_000;
const retryBaseMs = 25;
/** A starting API server is asked this often, this many times: how soon nodes are ready is part of the start-up time. */
const firstRetryMs = 25;
const firstRetriesMax = 400;

export interface NodeAgent {
  stop(): void;
}

/** Works in the background; never throws. Calls `onContact` when the API server has answered for the first time, with whatever. */
export function startNodeAgent(
  options: KubeletOptions,
  facts: MachineFacts,
  kubeletPort: number | undefined,
  onContact: () => void,
): NodeAgent {
  const { client, clock, log, nodeName } = options;
  let inContact = false;
  const contact = () => {
    if (!inContact) onContact();
    inContact = true;
  };
  const abort = new AbortController();
  const informer = createInformer(options, nodes, { fieldSelector: `metadata.name=${nodeName}` });
  let registered = false;
  let wakeUp = () => {};
  let statusDueMs = 0;
  informer.onChange((current) => {
    if (!registered) return;
    // Deleted, or declared unready by a controller while this kubelet was silent: put it right at once.
    const ready = current?.status?.conditions?.find((c) => c.type === "Ready");
    if (current === undefined) registered = false;
    else if (ready?.status === "True") return;
    statusDueMs = 0;
    wakeUp();
  });

  const register = async () => {
    try {
      await client.create(nodes, nodeDraft(options, facts));
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      const { taints: _, ...spec } = nodeDraft(options, facts).spec ?? {};
      await client.patch(nodes, undefined, nodeName, { metadata: { labels: nodeLabels(options, facts) }, spec });
    }
    registered = true;
    statusDueMs = 0;
  };
  const report = async () => {
    const known = informer.get(nodeName);
    const status = nodeStatus(options, facts, kubeletPort, known?.status, timestamp(clock));
    await client.patch<Node>(nodes, undefined, nodeName, { status }, { subresource: "status" });
    statusDueMs = clock.now() + statusEveryMs;
  };
  const renew = async () => {
    const renewTime = microTimestamp(clock);
    try {
      await client.patch(leases, leaseNamespace, nodeName, { spec: { renewTime, holderIdentity: nodeName } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
      await client.create(leases, {
        apiVersion: "coordination.k8s.io/v1",
        kind: "Lease",
        metadata: { name: nodeName, namespace: leaseNamespace },
        spec: { holderIdentity: nodeName, leaseDurationSeconds: leaseSeconds, renewTime },
      });
    }
  };

  const run = async () => {
    let failures = 0;
    let renewDueMs = 0;
    while (!abort.signal.aborted) {
      try {
        if (!registered) await register();
        contact();
        if (clock.now() >= statusDueMs) await report();
        if (clock.now() >= renewDueMs) await renew();
        renewDueMs = clock.now() + renewEveryMs;
        failures = 0;
      } catch (error) {
        if (error instanceof ApiError) contact();
        if (isNotFound(error)) registered = false;
        const level = error instanceof ApiError && failures === 10 ? "warn" : "debug";
        log[level]("node not reported", { error: messageOf(error) });
        failures++;
      }
      const waitMs = failures === 0 ? renewEveryMs : retryMs(failures, inContact);
      const nap = new AbortController();
      wakeUp = () => nap.abort();
      await clock.sleep(waitMs, AbortSignal.any([abort.signal, nap.signal]));
    }
  };
  void run();
  return {
    stop() {
      abort.abort();
      informer.stop();
    },
  };
}

function retryMs(failures: number, inContact: boolean): number {
  if (!inContact && failures < firstRetriesMax) return firstRetryMs;
  return Math.min(renewEveryMs, retryBaseMs * 2 ** Math.min(failures, 8));
}

/** A client whose lists wait for `contact`: informers start with it instead of backing off from a server that is not there yet. */
export function afterContact(client: Client, contact: Promise<void>): Client {
  const list: Client["list"] = async (resource, options) => {
    await contact;
    return client.list(resource, options);
  };
  return Object.assign(Object.create(client) as Client, { list });
}
