// pods/binding and pods/eviction: how the scheduler places a pod and how a pod is asked to leave.

import type { KindDefinition } from "../api/kind.ts";
import type { KubeObject, Status } from "../api/object.ts";
import { type Clock, timestamp } from "../kernel/clock.ts";
import { isRecord } from "./body.ts";
import { deleteObject, deleteOptionsOf } from "./delete.ts";
import { badRequest, conflict, invalid } from "./failure.ts";
import { modifyObject } from "./modify.ts";
import type { CoreDeps } from "./types.ts";

interface Condition {
  type: string;
  status: string;
  lastProbeTime: null;
  lastTransitionTime: string;
}

const success: Status = { apiVersion: "v1", kind: "Status", metadata: {}, status: "Success", code: 201 };

/** Body: v1 Binding with the node in `target`. 409 when the pod has a node already. */
export async function bindPod(
  deps: CoreDeps,
  kind: KindDefinition,
  namespace: string | undefined,
  name: string,
  body: unknown,
  dryRun: boolean,
): Promise<Status> {
  const binding = isRecord(body) ? body : {};
  const target = isRecord(binding["target"]) ? binding["target"] : {};
  const node = target["name"];
  if (typeof node !== "string" || node === "" || (target["kind"] && target["kind"] !== "Node"))
    throw invalid({ group: "", plural: "bindings", kind: "Binding" }, name, [
      { field: "target.name", reason: "FieldValueRequired", message: "Required value: the name of a Node" },
    ]);
  const metadata = isRecord(binding["metadata"]) ? binding["metadata"] : {};
  await modifyObject(deps, {
    kind,
    namespace,
    name,
    admitted: false,
    dryRun,
    change(pod) {
      const uid = metadata["uid"];
      if (uid && uid !== pod.metadata.uid)
        throw conflict(
          kind,
          name,
          `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${pod.metadata.uid}`,
        );
      return bound(deps.clock, kind, pod, node);
    },
  });
  return success;
}

function bound(clock: Clock, kind: KindDefinition, pod: KubeObject, node: string): KubeObject {
  const spec = pod["spec"] as { nodeName?: string };
  const { name, deletionTimestamp } = pod.metadata;
  if (deletionTimestamp !== undefined)
    throw conflict(kind, name, `pod ${name} is being deleted, cannot be assigned to a host`);
  if (spec.nodeName) throw conflict(kind, name, `pod ${name} is already assigned to node "${spec.nodeName}"`);
  const status = (pod["status"] ?? {}) as { conditions?: Condition[] };
  const scheduled: Condition = {
    type: "PodScheduled",
    status: "True",
    lastProbeTime: null,
    lastTransitionTime: timestamp(clock),
  };
  const conditions = (status.conditions ?? []).filter((each) => each.type !== "PodScheduled");
  return {
    ...pod,
    spec: { ...spec, nodeName: node },
    status: { ...status, conditions: [...conditions, scheduled] },
  };
}

/** Body: policy/v1 Eviction. There are no disruption budgets to ask, so it is a delete with the options inside. */
export async function evictPod(
  deps: CoreDeps,
  kind: KindDefinition,
  namespace: string | undefined,
  name: string,
  body: unknown,
  dryRun: boolean,
): Promise<Status> {
  if (!isRecord(body) || body["kind"] !== "Eviction") throw badRequest("the body must be a policy/v1 Eviction");
  const options = deleteOptionsOf(body["deleteOptions"], {});
  await deleteObject(deps, kind, namespace, name, { ...options, dryRun: options.dryRun || dryRun });
  return success;
}
