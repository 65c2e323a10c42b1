// Values of the downward API: fields of the pod and resources of its containers, as text. Pure.

import { quantityMilli, quantityValue } from "../api/quantity.ts";
import type { Pod } from "../api/types.ts";
import { MeshbedError } from "../kernel/errors.ts";

export interface PodFacts {
  pod: Pod;
  podIp: string;
  hostIp: string;
  nodeName: string;
  /** What a container without a limit may use. */
  allocatable: { cpu: string; memory: string; "ephemeral-storage": string };
}

const quote = (text: string): string => JSON.stringify(text);

/** metadata.labels and metadata.annotations as files hold them: key="escaped value", sorted, one a line. */
const mapText = (map: Readonly<Record<string, string>> | undefined): string =>
  Object.entries(map ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${quote(value)}`)
    .join("\n");

/** Throws MeshbedError FIELD_UNKNOWN for a path the downward API does not offer. */
export function fieldValue(facts: PodFacts, path: string): string {
  const { metadata, spec } = facts.pod;
  const subscript = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path);
  if (subscript !== null) return metadata[subscript[1] as "labels" | "annotations"]?.[subscript[2]!] ?? "";
  switch (path) {
    case "metadata.name":
      return metadata.name;
    case "metadata.namespace":
      return metadata.namespace ?? "";
    case "metadata.uid":
      return metadata.uid;
    case "metadata.labels":
      return mapText(metadata.labels);
    case "metadata.annotations":
      return mapText(metadata.annotations);
    case "spec.nodeName":
      return facts.nodeName;
    case "spec.serviceAccountName":
      return spec?.serviceAccountName ?? "default";
    case "status.podIP":
    case "status.podIPs":
      return facts.podIp;
    case "status.hostIP":
    case "status.hostIPs":
      return facts.hostIp;
    default:
      throw new MeshbedError("FIELD_UNKNOWN", `unsupported fieldPath: ${path}`);
  }
}

export interface ResourceRef {
  containerName?: string;
  resource: string;
  divisor?: string | number;
}

/** A container's request or limit divided by the divisor and rounded up. Throws FIELD_UNKNOWN, QUANTITY_INVALID. */
export function resourceValue(facts: PodFacts, ref: ResourceRef, ownContainer: string | undefined): string {
  const name = ref.containerName ?? ownContainer;
  const { containers = [], initContainers = [] } = facts.pod.spec ?? {};
  const container = [...containers, ...initContainers].find((c) => c.name === name);
  if (container === undefined) throw new MeshbedError("FIELD_UNKNOWN", `container ${name} not found in pod`);
  const [kind, ...rest] = ref.resource.split(".");
  const resource = rest.join(".");
  if ((kind !== "limits" && kind !== "requests") || !["cpu", "memory", "ephemeral-storage"].includes(resource))
    throw new MeshbedError("FIELD_UNKNOWN", `unsupported container resource: ${ref.resource}`);
  const limit = container.resources?.limits?.[resource];
  const request = container.resources?.requests?.[resource] ?? limit;
  const quantity =
    kind === "requests" ? (request ?? "0") : (limit ?? facts.allocatable[resource as keyof PodFacts["allocatable"]]);
  const divisor = ref.divisor === undefined || String(ref.divisor) === "0" ? "1" : ref.divisor;
  if (resource === "cpu") return String(Math.ceil(quantityMilli(quantity) / quantityMilli(divisor)));
  return String(Math.ceil(quantityValue(quantity) / quantityValue(divisor)));
}
