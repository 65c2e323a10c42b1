// Admission of Pods: service account, default tolerations, first status (Kubernetes' plugins ServiceAccount and DefaultTolerationSeconds).

import { forbidden } from "./failure.ts";
import { recordKey } from "./records.ts";
import type { AdmissionRequest, CoreDeps } from "./types.ts";

interface Toleration {
  key?: string;
  operator?: string;
  value?: string;
  effect?: string;
  tolerationSeconds?: number;
}
interface PodSpec {
  serviceAccountName?: string;
  serviceAccount?: string;
  tolerations?: Toleration[];
}

const defaultServiceAccount = "default";
const nodeTroubles = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

const isNewPod = ({ kind, old }: AdmissionRequest) => kind.group === "" && kind.kind === "Pod" && old === undefined;

/** Fills in what a new pod leaves open. */
export function completePod({ settings }: CoreDeps, request: AdmissionRequest): void {
  if (!isNewPod(request)) return;
  const { object } = request;
  const spec = object["spec"] as PodSpec | undefined;
  if (spec === undefined || spec === null || typeof spec !== "object") return;
  spec.serviceAccountName ||= spec.serviceAccount || defaultServiceAccount;
  spec.serviceAccount = spec.serviceAccountName;
  spec.tolerations = withDefaultTolerations(spec.tolerations, settings.defaultTolerationSeconds);
  const status = (object["status"] ?? {}) as Record<string, unknown>;
  status["phase"] = "Pending";
  object["status"] = status;
}

/** Adds a limited toleration of a node's troubles unless the pod says itself how long it stays. */
function withDefaultTolerations(tolerations: Toleration[] | undefined, seconds: number): Toleration[] {
  const all = Array.isArray(tolerations) ? [...tolerations] : [];
  for (const key of nodeTroubles) {
    const covered = all.some(
      (each) =>
        (each.key === key || (!each.key && each.operator === "Exists")) &&
        (!each.effect || each.effect === "NoExecute"),
    );
    if (!covered) all.push({ key, operator: "Exists", effect: "NoExecute", tolerationSeconds: seconds });
  }
  return all;
}

/** A named service account must exist; "default" may still be on its way from its controller. */
export function requireServiceAccount({ store }: CoreDeps, request: AdmissionRequest): void {
  if (!isNewPod(request)) return;
  const { kind, object } = request;
  const name = (object["spec"] as PodSpec | undefined)?.serviceAccountName;
  if (name === undefined || name === defaultServiceAccount) return;
  const { namespace } = object.metadata;
  const key = recordKey({ group: "", plural: "serviceaccounts", namespaced: true }, namespace, name);
  if (store.get(key) === undefined)
    throw forbidden(
      kind,
      object.metadata.name,
      `error looking up service account ${namespace}/${name}: serviceaccount "${name}" not found`,
    );
}
