// backendRefs → hosts and ports of the mesh, or why they lead nowhere. Pure.

import { keyOf } from "../../api/object.ts";
import type { Service, ServiceEntry } from "../../api/types.ts";
import type { IsGranted } from "./grants.ts";
import { gatewayGroup, type Route } from "./types.ts";

export interface BackendReference {
  group?: string;
  kind?: string;
  name: string;
  namespace?: string;
  port?: number;
}

/** `problem`: the host is one that no cluster has; requests for it are answered with 500. */
export interface Backend {
  host: string;
  port: number | undefined;
  problem?: { reason: "InvalidKind" | "BackendNotFound" | "RefNotPermitted"; message: string };
}

export type ResolveBackend = (route: Route, ref: BackendReference) => Backend;

/** RFC 2606: nobody's. What led here stands in the cluster's name, and so in access logs. */
const nowhere = {
  InvalidKind: "invalid-kind.invalid",
  BackendNotFound: "backend-not-found.invalid",
  RefNotPermitted: "ref-not-permitted.invalid",
} as const;

export function backendResolver(
  services: readonly Service[],
  serviceEntries: readonly ServiceEntry[],
  isGranted: IsGranted,
  clusterDomain: string,
): ResolveBackend {
  const serviceByKey = new Map(services.map((service) => [keyOf(service), service]));
  const entryHosts = new Set(serviceEntries.flatMap(({ spec }) => spec?.hosts ?? []));
  return (route, ref) => {
    const { group = "", kind = "Service", name, namespace = route.metadata.namespace ?? "default", port } = ref;
    const bad = (reason: keyof typeof nowhere, message: string): Backend => ({
      host: nowhere[reason],
      port,
      problem: { reason, message },
    });
    const from = { group: gatewayGroup, kind: route.kind, namespace: route.metadata.namespace ?? "default" };
    const isHostname = group === "networking.istio.io" && kind === "Hostname";
    if (!isHostname && (group !== "" || kind !== "Service"))
      return bad("InvalidKind", `backends of kind ${group ? `${group}/` : ""}${kind} are not supported: Service is`);
    if (!isHostname && !isGranted(from, { group, kind, namespace, name }))
      return bad(
        "RefNotPermitted",
        `no ReferenceGrant in ${namespace} lets a ${route.kind} of ${from.namespace} name Service ${name}`,
      );
    if (isHostname) {
      const isKnown = entryHosts.has(name) || serviceByKey.has(name.split(".", 2).reverse().join("/"));
      return isKnown ? { host: name, port } : bad("BackendNotFound", `no ServiceEntry or Service has host ${name}`);
    }
    const service = serviceByKey.get(`${namespace}/${name}`);
    if (service === undefined) return bad("BackendNotFound", `Service ${namespace}/${name} does not exist`);
    if (port === undefined) return bad("BackendNotFound", `Service ${name} is named without a port`);
    if (!service.spec?.ports?.some((candidate) => candidate.port === port))
      return bad("BackendNotFound", `Service ${namespace}/${name} has no port ${port}`);
    return { host: `${name}.${namespace}.svc.${clusterDomain}`, port };
  };
}
