// What sidecars listen on for everything that is not one service's own address: HTTP ports, shared ports, and all the rest. Pure.

import { create } from "@bufbuild/protobuf";
import { TrafficDirection } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import {
  type Filter,
  type FilterChain,
  FilterChainSchema,
} from "#gen/xds/envoy/config/listener/v3/listener_components_pb.js";
import { type Listener, ListenerSchema } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import type { EndpointSlice } from "../api/types.ts";
import { getOrAdd } from "../kernel/map.ts";
import { tcpAddress } from "./envoy.ts";
import { httpManager, type ListenerTelemetry, statsFilters, tcpProxy } from "./filters.ts";
import { isHttp } from "./model.ts";
import { type Audience, bindOf, servesPort } from "./sidecar-scope.ts";
import { blackHoleName, passthroughName } from "./translate-clusters.ts";
import {
  anyAddress,
  bindsOf,
  filterChain,
  isOpen,
  matchOf,
  type StreamChain,
  type StreamContext,
  streamChains,
} from "./translate-streams.ts";
import { httpPorts, isHeadless } from "./translate-virtual-hosts.ts";
import type { ServiceModel } from "./types.ts";

const catchAllName = "virtualOutbound";
const catchAllPort = 15001;

/**
 * Interception is by routing, which needs somebody who listens. Ports of services are listened on; these are as well, for what
 * applications commonly ask for outside the mesh. Others are refused by the kernel.
 */
const wellKnownPorts = [80, 443, 1433, 3306, 5432, 5672, 6379, 8080, 8443, 9042, 9092, 9200, 11211, 27017];

/** Services whose address is theirs alone have listeners of their own, which are kept one by one. */
export const sharesListeners = ({ entry, addresses }: ServiceModel): boolean =>
  entry !== undefined || addresses.length === 0;

/** Wildcard listeners, those of ServiceEntries, and the one that takes what nobody else does. */
export function egressListeners(
  context: StreamContext,
  services: readonly ServiceModel[],
  audience: Audience,
): Listener[] {
  const chains = new Map<string, { address: string; port: number; chains: StreamChain[] }>();
  const at = (address: string, port: number) =>
    getOrAdd(chains, `${address}_${port}`, () => ({ address, port, chains: [] }));
  for (const port of httpPorts(services, audience)) at(bindOf(audience, port) ?? anyAddress, port);
  for (const service of services) {
    for (const port of service.ports) {
      if (isHttp(port.protocol) || port.protocol === "udp" || !servesPort(audience, service, port.port)) continue;
      const own = bindOf(audience, port.port);
      // Headless services are passed through to the pod that was asked for, by the listener for the rest where it lets pass.
      if (own === undefined && isHeadless(service)) {
        if (!audience.registryOnly) continue;
        for (const address of podAddresses(service)) at(address, port.port).chains.push(toAnyPod(context.telemetry));
        continue;
      }
      if (own === undefined && !sharesListeners(service)) continue;
      for (const bind of own === undefined ? bindsOf(service) : [{ address: own, cidr: undefined }])
        at(bind.address, port.port).chains.push(...streamChains(context, service, port, bind));
    }
  }
  const http = new Set(httpPorts(services, audience));
  const listeners = [...chains].map(([name, { address, port, chains: all }]) => {
    const isWildcard = !sharesAddress(address);
    const hasHttp = http.has(port) && address === (bindOf(audience, port) ?? anyAddress);
    return listenerOf(context, audience, name, { address, port, chains: all, hasHttp, isWildcard });
  });
  listeners.sort((a, b) => (a.name < b.name ? -1 : 1));
  return [...listeners, catchAll(context.telemetry, audience)];
}

/** Slices of headless services: what listeners for them depend on. */
export const headlessSlices = (services: readonly ServiceModel[]): EndpointSlice[] =>
  services.flatMap((service) => (isHeadless(service) ? service.slices : []));

const podAddresses = ({ slices }: ServiceModel): Set<string> =>
  new Set(
    slices.flatMap(({ addressType, endpoints }) =>
      addressType === "IPv4" ? (endpoints ?? []).flatMap(({ addresses }) => addresses) : [],
    ),
  );

const toAnyPod = (telemetry: ListenerTelemetry): StreamChain => ({
  serverNames: [],
  subnets: [],
  filters: passthroughFilters(passthroughName, telemetry),
});

const sharesAddress = (address: string): boolean => address !== anyAddress;

interface Shared {
  address: string;
  port: number;
  chains: readonly StreamChain[];
  hasHttp: boolean;
  isWildcard: boolean;
}

/** Of chains that no connection could tell apart the first stands; what takes everything cannot be beside HTTP, which does as well. */
function listenerOf(
  { telemetry }: StreamContext,
  audience: Audience,
  name: string,
  { address, port, chains, hasHttp, isWildcard }: Shared,
): Listener {
  const kept = new Map<string, StreamChain>();
  for (const chain of chains) {
    if (hasHttp && isOpen(chain)) continue;
    const key = isOpen(chain) ? "" : matchOf(chain);
    if (!kept.has(key)) kept.set(key, chain);
  }
  const filterChains = [...kept.values()].map(filterChain);
  const isTaken = hasHttp || kept.has("");
  if (hasHttp) {
    const filters = [httpManager({ statPrefix: `outbound_${name}`, routes: String(port), edge: false, telemetry })];
    filterChains.push(create(FilterChainSchema, { filters }));
  }
  return create(ListenerSchema, {
    name,
    address: tcpAddress(address, port),
    filterChains,
    ...(!isTaken && isWildcard && { defaultFilterChain: restChain(telemetry, audience) }),
    trafficDirection: TrafficDirection.OUTBOUND,
    bindToPort: false,
  });
}

const passthroughFilters = (name: string, telemetry: ListenerTelemetry): Filter[] => [
  ...statsFilters(telemetry),
  tcpProxy(name, [{ name, weight: 1 }], telemetry),
];

/** Istio: PassthroughFilterChain, or with REGISTRY_ONLY nowhere. */
function restChain(telemetry: ListenerTelemetry, { registryOnly }: Audience): FilterChain {
  const name = registryOnly ? blackHoleName : passthroughName;
  const filters = passthroughFilters(name, telemetry);
  return create(FilterChainSchema, { name: registryOnly ? "BlackHoleFilterChain" : "PassthroughFilterChain", filters });
}

function catchAll(telemetry: ListenerTelemetry, audience: Audience): Listener {
  return create(ListenerSchema, {
    name: catchAllName,
    address: tcpAddress(anyAddress, catchAllPort),
    additionalAddresses: wellKnownPorts.map((port) => ({ address: tcpAddress(anyAddress, port) })),
    filterChains: [restChain(telemetry, audience)],
    useOriginalDst: true,
    trafficDirection: TrafficDirection.OUTBOUND,
    bindToPort: false,
  });
}
