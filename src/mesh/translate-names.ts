// Services → Istio's name table (NDS): which names a DNS proxy answers by itself, and with which addresses. Pure.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type NameTable,
  type NameTable_NameInfoSchema,
  NameTableSchema,
} from "#gen/xds/istio/networking/nds/v1/nds_pb.js";
import type { Model, ServiceModel, Workload } from "./types.ts";

type NameInfo = MessageInitShape<typeof NameTable_NameInfoSchema>;

/** A service has its addresses; a headless one those of its pods, each of which with a hostname has a name of its own. */
export function nameTable(model: Model, services: readonly ServiceModel[]): NameTable {
  const table: Record<string, NameInfo> = {};
  for (const service of services) {
    const { host, name, namespace, addresses } = service;
    // A wildcard stands for names that nobody can list.
    if (host.startsWith("*")) continue;
    const isEntry = (service.service.kind as string) === "ServiceEntry";
    const origin = isEntry ? { registry: "External" } : { registry: "Kubernetes", shortname: name, namespace };
    const members = addresses.length > 0 || isEntry ? [] : readyMembers(model, service);
    const ips = addresses.length > 0 ? [...addresses] : members.map(({ address }) => address);
    if (ips.length === 0) continue;
    table[host] = { ips: [...new Set(ips)], ...origin };
    for (const { address, workload } of members) {
      const hostname = workload && ownName(workload, service);
      if (hostname === undefined) continue;
      // As Istio: the pod's part before the service's short name, so that the shorter forms are known as well.
      table[`${hostname}.${host}`] = { ips: [address], ...origin, shortname: `${hostname}.${name}` };
    }
  }
  return create(NameTableSchema, { table });
}

interface Member {
  address: string;
  workload: Workload | undefined;
}

function readyMembers(model: Model, { slices, namespace }: ServiceModel): Member[] {
  return slices.flatMap(({ endpoints, addressType }) =>
    addressType === "FQDN"
      ? []
      : (endpoints ?? []).flatMap(({ addresses, conditions, targetRef }) => {
          if (conditions?.ready === false) return [];
          const workload = model.workloadByKey.get(`${targetRef?.namespace ?? namespace}/${targetRef?.name}`);
          return addresses.map((address) => ({ address, workload }));
        }),
  );
}

/** A StatefulSet's pod says hostname and subdomain: the service that governs it. */
function ownName({ pod }: Workload, { name }: ServiceModel): string | undefined {
  const { hostname, subdomain } = pod.spec ?? {};
  return hostname && subdomain === name ? hostname : undefined;
}
