// One xDS node compiled as the proxy compiles it, without a socket and with time and chance in hand.

import { VirtualClock } from "../kernel/clock.ts";
import type { Log } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import type { Random } from "../kernel/random.ts";
import type { Runtime } from "../proxy/chain.ts";
import { parseWorkload, unknownWorkload } from "../proxy/clusters/cluster.ts";
import { InboundRegistry } from "../proxy/inbound.ts";
import { Sweeper } from "../proxy/sweep.ts";
import { SeriesRegistry } from "../proxy/telemetry/series.ts";
import { XdsNode } from "../proxy/xds_node.ts";
import { staticSource } from "../xds/memory.ts";
import { type Snapshot, typeUrls } from "../xds/types.ts";

/** Turns of the microtask queue a configuration takes at most: a few for each type of resource, and for each name to resolve. */
const turnsMax = 400;
/** Longer than a proxy waits for what its configuration refers to. */
const warmingMs = 6_000;
/** Documentation address (RFC 5737) that names outside the mesh stand for. */
const someAddress = "192.0.2.1";

/** Chance as whoever explains wants it: every draw hits, or none below certainty. */
export class Dice implements Random {
  hits = false;
  next(): number {
    return this.hits ? 0 : 1 - Number.EPSILON;
  }
  below(): number {
    return 0;
  }
}

export interface DryNode {
  readonly nodeId: string;
  readonly node: XdsNode;
  readonly runtime: Runtime;
  readonly dice: Dice;
  readonly snapshot: Snapshot;
  /** What the proxy would refuse of its configuration (NACK). */
  readonly refusals: readonly string[];
  close(): void;
}

/** `about` and `identity`: who the workload is, as its listeners and its certificate would say. */
export async function createDryNode(options: {
  nodeId: string;
  snapshot: Snapshot;
  about: string;
  identity: string;
  nowMs: number;
}): Promise<DryNode> {
  const { nodeId, about, identity, nowMs } = options;
  const refusals: string[] = [];
  const log = collectingLog(refusals);
  const clock = new VirtualClock(nowMs);
  const dice = new Dice();
  const metrics = new Metrics();
  const runtime: Runtime = {
    clock,
    random: dice,
    log,
    metrics,
    series: new SeriesRegistry(metrics),
    sweeper: new Sweeper(clock),
    inbound: new InboundRegistry(),
    resolve: () => Promise.resolve([someAddress]),
    podSource: () => undefined,
    isVirtual: () => false,
    draining: false,
    closes: "nothing",
  };
  const snapshot = withoutIdentity(options.snapshot);
  const xds = staticSource(snapshot, { log, clock });
  const sinks = { open: () => ({ write: () => {} }) };
  const node = new XdsNode(xds.open(nodeId), nodeId, false, { runtime, sinks, onListeners: () => {} });
  for (let turn = 0; turn < turnsMax && !node.isReady; turn++) await Promise.resolve();
  if (node.isWarming || !node.isReady) clock.advance(warmingMs);
  node.owner.identity =
    about === "" ? { ...unknownWorkload, principal: identity } : { ...parseWorkload(about, identity) };
  return { nodeId, node, runtime, dice, snapshot, refusals, close: () => node.close() };
}

/** Nobody is shaken hands with: the mesh's own certificates need not be real. */
function withoutIdentity({ resources }: Snapshot): Snapshot {
  const secrets = resources[typeUrls.secret];
  if (secrets === undefined) return { resources };
  const others = secrets.resources.filter(({ name }) => name !== "default" && name !== "ROOTCA");
  return { resources: { ...resources, [typeUrls.secret]: { version: secrets.version, resources: others } } };
}

function collectingLog(refusals: string[]): Log {
  const take = (message: string, fields: Readonly<Record<string, unknown>> = {}): void => {
    const reason = fields["reason"] ?? fields["error"];
    if (reason !== undefined) refusals.push(`${message}: ${reason}`);
  };
  const log: Log = { debug: () => {}, info: () => {}, warn: take, error: take, with: () => log };
  return log;
}
