// What ServiceEntries, WorkloadEntries, WorkloadGroups and Sidecars ask for and is not carried out. Pure.

import { isIP } from "node:net";
import type { ServiceEntry, Sidecar, WorkloadEntry, WorkloadGroup } from "../api/types.ts";
import { collect } from "./problems.ts";
import { isUnreachable } from "./sidecar-scope.ts";
import { endpointPort } from "./translate-ingress.ts";
import type { Model, Problem } from "./types.ts";

export const serviceEntryProblems = (object: ServiceEntry): Problem[] =>
  collect(object, (report) => {
    const { endpoints = [], resolution } = object.spec ?? {};
    endpoints.forEach(({ address = "", network }, index) => {
      const path = `spec.endpoints[${index}]`;
      if (address.startsWith("unix:"))
        report(`${path}.address`, "sockets in files are not connected to; it is left out");
      else if (resolution === "STATIC" && isIP(address) === 0)
        report(`${path}.address`, `"${address}" is no IP address, which STATIC asks for; it is left out`);
      if (network) report(`${path}.network`, "is ignored: there is one network");
    });
    if (resolution === "DYNAMIC_DNS")
      report("spec.resolution", "is taken as NONE: hosts are not resolved by the proxy");
  });

export const workloadEntryProblems = (object: WorkloadEntry): Problem[] =>
  collect(object, (report) => {
    const { address = "", network } = object.spec ?? {};
    if (address.startsWith("unix:")) report("spec.address", "sockets in files are not connected to; it is left out");
    if (network) report("spec.network", "is ignored: there is one network");
  });

export const workloadGroupProblems = (object: WorkloadGroup): Problem[] =>
  collect(object, (report) => {
    report("spec.template", "no machine registers itself; WorkloadEntries are used as they are applied");
    if (object.spec?.probe !== undefined) report("spec.probe", "is not carried out");
  });

export const sidecarProblems = (object: Sidecar): Problem[] =>
  collect(object, (report) => {
    const { egress = [], ingress = [], outboundTrafficPolicy } = object.spec ?? {};
    const bound = (path: string, bind: string | undefined, captureMode: string | undefined) => {
      if (isUnreachable(bind))
        report(`${path}.bind`, `"${bind}" is inside the pod, where no proxy listens; traffic is intercepted`);
      if (captureMode === "NONE") report(`${path}.captureMode`, "traffic is intercepted all the same");
    };
    egress.forEach(({ bind, captureMode }, index) => {
      bound(`spec.egress[${index}]`, bind, captureMode);
    });
    ingress.forEach(({ bind, captureMode, defaultEndpoint, tls }, index) => {
      const path = `spec.ingress[${index}]`;
      bound(path, bind, captureMode);
      if (defaultEndpoint && endpointPort(defaultEndpoint) === undefined)
        report(`${path}.defaultEndpoint`, `"${defaultEndpoint}" is not connected to; the port itself is`);
      if (tls !== undefined)
        report(`${path}.tls`, "is not carried out: plain text and the mesh's mutual TLS are taken");
    });
    if (outboundTrafficPolicy?.egressProxy !== undefined)
      report("spec.outboundTrafficPolicy.egressProxy", "is not carried out");
  });

/** Entries for a host that a Service has are not used. */
export function entryConflicts(model: Model, entries: readonly ServiceEntry[]): Problem[] {
  return entries.flatMap((object) =>
    (object.spec?.hosts ?? []).flatMap((host, index): Problem[] => {
      const service = model.serviceByHost.get(host.toLowerCase());
      if (service === undefined || service.entry !== undefined) return [];
      const field = `spec.hosts[${index}]`;
      const message = `${field}: ${host} is Service ${service.namespace}/${service.name}; the entry is not used for it`;
      return [{ object, reason: "Conflicting", field, message }];
    }),
  );
}
