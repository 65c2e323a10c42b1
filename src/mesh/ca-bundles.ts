// The ConfigMaps that BackendTLSPolicies name, each watched alone: those of a cluster may be many and large.

import { configMaps } from "../api/resources.ts";
import type { BackendTLSPolicy, ConfigMap } from "../api/types.ts";
import type { Informer, InformerOptions } from "../client/types.ts";
import { caBundleKeys } from "./gateway-api/backend-tls.ts";

/** Of further ones nothing is known: their policies say so. */
const bundlesMax = 200;

export interface CaBundles {
  list(): ConfigMap[];
  /** Watches what the policies name now; resolves when all of it was read. */
  follow(policies: readonly BackendTLSPolicy[]): Promise<unknown>;
  stop(): void;
}

export function createCaBundles(
  informerOf: (resource: typeof configMaps, selection: InformerOptions) => Informer<ConfigMap>,
  onChange: () => void,
): CaBundles {
  const informers = new Map<string, Informer<ConfigMap>>();
  const watch = (key: string): void => {
    const [namespace = "", name] = key.split("/");
    const informer = informerOf(configMaps, { namespace, fieldSelector: `metadata.name=${name}` });
    informer.onChange(onChange);
    informers.set(key, informer);
  };
  const forget = (key: string): void => {
    informers.get(key)?.stop();
    informers.delete(key);
  };
  return {
    list: () => [...informers.values()].flatMap((informer) => informer.list()),
    follow(policies) {
      const wanted = caBundleKeys(policies);
      for (const key of [...informers.keys()]) if (!wanted.has(key)) forget(key);
      for (const key of wanted) if (!informers.has(key) && informers.size < bundlesMax) watch(key);
      return Promise.all([...informers.values()].map(({ synced }) => synced));
    },
    stop() {
      for (const key of [...informers.keys()]) forget(key);
    },
  };
}
