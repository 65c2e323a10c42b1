// Names outside the cluster's zone that are known here: ServiceEntries for pods in the mesh (as Istio's DNS proxy), hosts of the testbed for all.

import { isInjected } from "../api/injection.ts";
import { configMaps, namespaces, serviceEntries } from "../api/resources.ts";
import type { Namespace, Pod, ServiceEntry } from "../api/types.ts";
import { createInformer, type InformerDeps } from "../client/informer.ts";
import type { IndexedInformer } from "../client/types.ts";

/** Labels of a name that wildcards are looked for behind. */
const labelsMax = 32;
/** Hosts of the testbed's outside world: in the hosts file format, where K3s' CoreDNS looks for further hosts. */
const hostsMap = { namespace: "kube-system", name: "coredns", key: "NodeHosts" } as const;
const hostsMax = 10_000;

export interface OutsideNames {
  /** Undefined: not known here. `from`: who asks. */
  addresses(name: string, from: string): readonly string[] | undefined;
  stop(): void;
}

/** `podOf`: the pod of this node with the address. */
export function createOutsideNames(deps: InformerDeps, podOf: (ip: string) => Pod | undefined): OutsideNames {
  const entries = createInformer(deps, serviceEntries, {}, { host: hostsOf });
  let spaces: IndexedInformer<Namespace> | undefined;
  entries.onChange((current) => {
    if (current !== undefined) spaces ??= createInformer(deps, namespaces);
  });
  const selection = { namespace: hostsMap.namespace, fieldSelector: `metadata.name=${hostsMap.name}` };
  const hosts = createInformer(deps, configMaps, selection);
  let known: ReadonlyMap<string, readonly string[]> = new Map();
  hosts.onChange((current) => {
    known = parseHosts(current?.data?.[hostsMap.key] ?? "");
  });
  return {
    addresses(name, from) {
      if (spaces !== undefined) {
        const pod = podOf(from);
        const namespace = pod?.metadata.namespace ?? "";
        if (pod !== undefined && isInjected(pod as Parameters<typeof isInjected>[0], spaces.get(namespace))) {
          const found = entryAddresses((host) => entries.by("host", host), name, namespace);
          if (found.length > 0) return found;
        }
      }
      return known.get(name);
    },
    stop() {
      entries.stop();
      spaces?.stop();
      hosts.stop();
    },
  };
}

const hostsOf = ({ spec }: ServiceEntry): string[] => (spec?.hosts ?? []).map((host) => host.toLowerCase());

/** Of the most specific host with an address; of several entries for it the namespace's own, then the oldest. Pure. */
export function entryAddresses(
  byHost: (host: string) => readonly ServiceEntry[],
  name: string,
  namespace: string,
): readonly string[] {
  const labels = name.split(".", labelsMax);
  const hosts = [name, ...labels.slice(1).map((_, i) => `*.${labels.slice(i + 1).join(".")}`)];
  for (const host of hosts) {
    const visible = byHost(host).filter((entry) => isVisible(entry, namespace));
    const own = visible.filter(({ metadata }) => metadata.namespace === namespace);
    const sorted = [...(own.length > 0 ? own : visible)].sort((a, b) =>
      a.metadata.creationTimestamp < b.metadata.creationTimestamp ? -1 : 1,
    );
    for (const entry of sorted) {
      const addresses = addressesOf(entry, host);
      if (addresses.length > 0) return addresses;
    }
  }
  return [];
}

function isVisible({ metadata, spec }: ServiceEntry, namespace: string): boolean {
  const exportTo = spec?.exportTo ?? [];
  if (exportTo.length === 0 || exportTo.includes("*") || exportTo.includes(namespace)) return true;
  return exportTo.includes(".") && metadata.namespace === namespace;
}

/** Its own, as far as each is one address; else the one allocated for the host. */
function addressesOf({ spec, status }: ServiceEntry, host: string): string[] {
  const own = (spec?.addresses ?? []).map((address) => address.replace(/\/32$/, ""));
  if (own.length > 0) return own.filter((address) => /^[\d.]+$/.test(address));
  const allocated = (status as { addresses?: { host?: string; value?: string }[] } | undefined)?.addresses ?? [];
  return allocated.flatMap(({ host: of, value }) => (of === host && value !== undefined ? [value] : []));
}

/** "172.20.0.101 api.example.com www.example.com # outside"; only IPv4, the first names win. Pure. */
export function parseHosts(text: string): Map<string, string[]> {
  const hosts = new Map<string, string[]>();
  for (const line of text.split("\n")) {
    const [address = "", ...names] = line.replace(/#.*/, "").trim().split(/\s+/);
    if (!/^\d+\.\d+\.\d+\.\d+$/.test(address)) continue;
    for (const name of names) {
      const host = name.toLowerCase().replace(/\.$/, "");
      const found = hosts.get(host);
      if (found !== undefined) found.push(address);
      else if (hosts.size < hostsMax) hosts.set(host, [address]);
    }
  }
  return hosts;
}
