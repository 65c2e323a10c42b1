// Puts the request core together over a store, ready to serve: addresses taken, system objects there. No network.

import type { KindDefinition } from "../api/kind.ts";
import type { ApiTransport } from "../api/rest.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Log } from "../kernel/log.ts";
import { Metrics } from "../kernel/metrics.ts";
import type { Random } from "../kernel/random.ts";
import { startCompaction } from "../store/compaction.ts";
import type { Store } from "../store/types.ts";
import { adoptServiceAddresses } from "./admission-service.ts";
import { bootstrap } from "./bootstrap.ts";
import { type Core, createCore } from "./core.ts";
import { unavailable } from "./failure.ts";
import { createKeyLocks } from "./key-locks.ts";
import { createKindTable, decodeEntry, prefixOf } from "./records.ts";
import { createServiceAddresses } from "./service-addresses.ts";
import { createTransport } from "./transport.ts";
import type { ApiSettings, Authorize, CoreDeps, KubeletAccess } from "./types.ts";

export interface ApiOptions {
  store: Store;
  kinds: readonly KindDefinition[];
  clock: Clock;
  random: Random;
  log: Log;
  settings?: Partial<ApiSettings>;
  authorize?: Authorize;
  metrics?: Metrics;
  /** Where the API server listens, for discovery and the `kubernetes` Service. Default 127.0.0.1:6443. */
  host?: string;
  port?: number;
  /** Without it logs are answered with 503. */
  kubelets?: KubeletAccess;
}

export interface Api {
  core: Core;
  transport: ApiTransport;
  metrics: Metrics;
  /** Stops background work; the store stays open and belongs to the caller. */
  close(): void;
}

const defaultSettings: ApiSettings = { defaultTolerationSeconds: 300 };

const noKubelets: KubeletAccess = {
  get() {
    throw unavailable("this API server has no access to kubelets");
  },
};

export async function createApi(options: ApiOptions): Promise<Api> {
  const { store, clock, random, log } = options;
  const deps: CoreDeps = {
    store,
    clock,
    random,
    log,
    kinds: createKindTable(options.kinds),
    settings: { ...defaultSettings, ...options.settings },
    addresses: createServiceAddresses(random),
    locks: createKeyLocks(),
  };
  for (const entry of store.list(prefixOf({ group: "", plural: "services" })).entries)
    adoptServiceAddresses(deps.addresses, decodeEntry(entry));
  const { host = "127.0.0.1", port = 6443 } = options;
  await bootstrap(deps, port);
  const metrics = options.metrics ?? new Metrics();
  const core = createCore(deps, {
    metrics,
    serverAddress: `${host}:${port}`,
    kubelets: options.kubelets ?? noKubelets,
    ...(options.authorize && { authorize: options.authorize }),
  });
  return { core, metrics, transport: createTransport(core), close: startCompaction(store, clock) };
}
