// Clusters whose endpoints are host names (STRICT_DNS, LOGICAL_DNS): resolved again and again, the last good answer kept.

import { lookup } from "node:dns/promises";
import { isIPv6 } from "node:net";
import type { Cancel } from "../../kernel/clock.ts";
import { messageOf } from "../../kernel/errors.ts";
import type { Runtime } from "../chain.ts";
import { type ClusterSlot, Endpoint } from "./cluster.ts";
import type { DnsFamily, DnsSettings } from "./config.ts";

/** Addresses of one name; further ones are left out. */
const addressesMax = 256;

/** All addresses of a host, of both families. Rejects when there is none. */
export type Resolve = (host: string) => Promise<string[]>;

export const systemResolve: Resolve = async (host) => (await lookup(host, { all: true })).map(({ address }) => address);

/** Envoy's AUTO is "v6-preferred". */
export function ofFamily(addresses: readonly string[], family: DnsFamily): string[] {
  const v6 = addresses.filter((address) => isIPv6(address));
  const v4 = addresses.filter((address) => !isIPv6(address));
  switch (family) {
    case "v4":
      return v4;
    case "v6":
      return v6;
    case "v4-preferred":
      return v4.length > 0 ? v4 : v6;
    case "v6-preferred":
      return v6.length > 0 ? v6 : v4;
    case "all":
      return [...v4, ...v6];
  }
}

/** The endpoints that `names` stand for. LOGICAL keeps the address in use while it is still an answer, so that connections live on. */
export function resolvedEndpoints(
  names: readonly Endpoint[],
  answers: ReadonlyMap<string, readonly string[]>,
  kind: DnsSettings["kind"],
  inUse: readonly Endpoint[],
): Endpoint[] {
  return names.flatMap((name) => {
    const { host, port } = name.transport;
    const addresses = answers.get(host) ?? [];
    const kept = addresses.find((address) => inUse.some((endpoint) => endpoint.transport.host === address));
    const chosen = kind === "STRICT" ? addresses : addresses.length > 0 ? [kept ?? addresses[0]!] : [];
    return chosen.map((address) => {
      const text = isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
      const key = `${text} ${name.key}`;
      const endpoint = new Endpoint(text, key, { ...name.transport, host: address }, name.workload);
      endpoint.metadata = name.metadata;
      endpoint.placement = { ...name.placement, hashKey: text, hostname: name.placement.hostname || host };
      return endpoint;
    });
  });
}

/** Resolves `names` from now on until stopped; `onResolved` follows the first answers, good or bad. */
export function watchDns(
  slot: ClusterSlot,
  settings: DnsSettings,
  names: readonly Endpoint[],
  runtime: Pick<Runtime, "clock" | "log" | "resolve">,
  onResolved: () => void,
): Cancel {
  const hosts = [...new Set(names.map(({ transport }) => transport.host))];
  const answers = new Map<string, readonly string[]>();
  const told = new Set<string>();
  const timers = new Map<string, Cancel>();
  let stopped = false;
  const apply = (): void => {
    slot.setEndpoints(resolvedEndpoints(names, answers, settings.kind, slot.all), slot.overprovisioningPercent);
    onResolved();
  };
  const resolve = async (host: string): Promise<void> => {
    let delayMs = settings.refreshMs;
    let changed = false;
    try {
      const found = ofFamily(await runtime.resolve(host), settings.family);
      const addresses = [...new Set(found)].sort().slice(0, addressesMax);
      changed = addresses.join() !== answers.get(host)?.join();
      answers.set(host, addresses);
    } catch (error) {
      delayMs = settings.failureRefreshMs;
      runtime.log.debug("name not resolved", { cluster: slot.name, host, error: messageOf(error) });
    }
    if (stopped) return;
    const isFirst = !told.has(host);
    told.add(host);
    timers.set(
      host,
      runtime.clock.after(delayMs, () => void resolve(host)),
    );
    if (told.size === hosts.length && (changed || isFirst)) apply();
  };
  for (const host of hosts) void resolve(host);
  if (hosts.length === 0) apply();
  return () => {
    stopped = true;
    for (const cancel of timers.values()) cancel();
  };
}
