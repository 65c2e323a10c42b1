// Whether a pod is in the mesh: the one place that decides, for kubelet, mesh and diagnosis.

import type { ObjectMeta } from "./object.ts";

const key = "sidecar.istio.io/inject";

type NamespaceMeta = { name?: string; labels?: Record<string, string> };
interface PodLike {
  metadata: Pick<ObjectMeta, "labels" | "annotations">;
  spec?: { hostNetwork?: boolean };
}

/** Namespaces Istio's injector never touches. */
const ignoredNamespaces = new Set(["kube-system", "kube-public", "kube-node-lease", "local-path-storage"]);

const isOff = (value: string | undefined) => value !== undefined && /^(false|n|no|off|0|f)$/i.test(value);
const isOn = (value: string | undefined) => value !== undefined && /^(true|y|yes|on|1|t)$/i.test(value);

/**
 * As Istio decides (webhook selectors, then the injector's `injectRequired`): never on the host network or in a system
 * namespace; when namespace or pod says no, no; else when either says yes, yes. The pod's label counts before its
 * annotation, and the annotation alone cannot opt in: without a label the webhook is not even called.
 */
export function isInjected(pod: PodLike, namespace: { metadata: NamespaceMeta } | undefined): boolean {
  if (pod.spec?.hostNetwork === true) return false;
  if (namespace !== undefined && ignoredNamespaces.has(namespace.metadata.name ?? "")) return false;
  const ofNamespace = namespace?.metadata.labels?.["istio-injection"];
  const label = pod.metadata.labels?.[key];
  if (ofNamespace === "disabled" || isOff(label)) return false;
  if (label === undefined && isOff(pod.metadata.annotations?.[key])) return false;
  return ofNamespace === "enabled" || isOn(label);
}
