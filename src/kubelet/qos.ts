// Quality of service class of a pod from its containers' requests and limits (kubelet's GetPodQOS). Pure.

import { compareQuantities } from "../api/quantity.ts";
import type { Pod } from "../api/types.ts";

export type QosClass = "Guaranteed" | "Burstable" | "BestEffort";

export function qosClassOf(pod: Pod): QosClass {
  const containers = [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? [])];
  let any = false;
  let guaranteed = true;
  for (const { resources } of containers)
    for (const resource of ["cpu", "memory"]) {
      const limit = resources?.limits?.[resource];
      const request = resources?.requests?.[resource] ?? limit;
      if (limit !== undefined || request !== undefined) any = true;
      if (limit === undefined || request === undefined || compareQuantities(limit, request) !== 0) guaranteed = false;
    }
  if (!any) return "BestEffort";
  return guaranteed ? "Guaranteed" : "Burstable";
}
