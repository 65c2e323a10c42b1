// Subresources: which there are, on which kinds, with which verbs.

import type { KubeObject } from "../api/object.ts";
import { methodNotAllowed, modifiedConflict, unknownResource } from "./failure.ts";
import { podLogs } from "./logs.ts";
import { modifyObject } from "./modify.ts";
import { bindPod, evictPod } from "./pod-subresources.ts";
import { scaleKind, scaleOf, withScale } from "./scale.ts";
import type { Answer, CoreDeps, KubeletAccess, ResourceRequest } from "./types.ts";
import { getObject, objectAnswer, patch, patchFunction, update } from "./verbs.ts";

export async function handleSubresource(
  deps: CoreDeps,
  kubelets: KubeletAccess,
  asked: ResourceRequest,
): Promise<Answer> {
  const { kind, subresource, verb, request, namespace, dryRun } = asked;
  const name = asked.name!;
  const isCore = (name: string) => kind.group === "" && kind.kind === name;
  if (subresource === "status" && kind.hasStatus) {
    if (verb === "get") return objectAnswer(deps, asked, 200, getObject(deps, asked));
    if (verb === "update") return update(deps, asked, "status");
    if (verb === "patch") return patch(deps, asked, "status");
  } else if (subresource === "scale" && kind.scale !== undefined) return scale(deps, asked);
  else if (subresource === "finalize" && isCore("Namespace")) {
    if (verb === "update") return update(deps, asked, "finalize");
  } else if (subresource === "log" && isCore("Pod")) {
    if (verb === "get") return podLogs(kubelets, deps, getObject(deps, asked), request);
  } else if (subresource === "binding" && isCore("Pod")) {
    if (verb === "create") return created(await bindPod(deps, kind, namespace, name, request.body, dryRun));
  } else if (subresource === "eviction" && isCore("Pod")) {
    if (verb === "create") return created(await evictPod(deps, kind, namespace, name, request.body, dryRun));
  } else throw unknownResource();
  throw methodNotAllowed();
}

const created = (body: unknown): Answer => ({ kind: "json", status: 201, body, warnings: [] });

/** GET, PUT and PATCH of autoscaling/v1 Scale. */
async function scale(deps: CoreDeps, asked: ResourceRequest): Promise<Answer> {
  const { kind, verb, request, namespace, dryRun } = asked;
  const asScale = { ...asked, kind: scaleKind, version: "v1" };
  const name = asked.name!;
  if (verb === "get") return objectAnswer(deps, asScale, 200, scaleOf(kind, getObject(deps, asked)));
  if (verb !== "update" && verb !== "patch") throw methodNotAllowed();
  const next = verb === "patch" ? await patchFunction(asScale) : () => request.body as KubeObject;
  const { object } = await modifyObject(deps, {
    kind,
    namespace,
    name,
    admitted: true,
    dryRun,
    change(current) {
      const wanted = next(scaleOf(kind, current));
      const changed = withScale(kind, current, wanted);
      const { resourceVersion } = wanted.metadata ?? {};
      if (resourceVersion && resourceVersion !== current.metadata.resourceVersion) throw modifiedConflict(kind, name);
      return changed;
    },
  });
  return objectAnswer(deps, asScale, 200, scaleOf(kind, object));
}
