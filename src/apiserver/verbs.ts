// The verbs on a resource itself: from a request to the operation, and from its result to the answer.

import type { KubeObject } from "../api/object.ts";
import { objectBody } from "./body.ts";
import { createObject } from "./create.ts";
import { deleteCollection, deletedStatus, deleteObject, deleteOptionsOf } from "./delete.ts";
import { badRequest, methodNotAllowed, notFound, unsupportedMediaType } from "./failure.ts";
import { checkedFields } from "./field-validation.ts";
import { listObjects } from "./list.ts";
import { modifyObject } from "./modify.ts";
import { decodeEntry, inVersion, recordKey } from "./records.ts";
import { renderEvents, renderingOf, renderList, renderObject } from "./render.ts";
import type { Answer, CoreDeps, ResourceRequest } from "./types.ts";
import { merged, type Part } from "./update.ts";
import { watchObjects } from "./watch.ts";

export async function handleResource(deps: CoreDeps, asked: ResourceRequest): Promise<Answer> {
  switch (asked.verb) {
    case "get":
      return objectAnswer(deps, asked, 200, getObject(deps, asked));
    case "list":
      return listAnswer(deps, asked);
    case "watch":
      return watchAnswer(deps, asked);
    case "create":
      return create(deps, asked);
    case "update":
      return update(deps, asked, "main");
    case "patch":
      return patch(deps, asked, "main");
    case "delete":
      return remove(deps, asked);
    case "deletecollection":
      return removeCollection(deps, asked);
    default:
      throw methodNotAllowed();
  }
}

const viewOf = (deps: CoreDeps, { kind, version, request }: ResourceRequest) => ({
  kind,
  version,
  clock: deps.clock,
  rendering: renderingOf(request.accept, request.query),
});

export async function objectAnswer(
  deps: CoreDeps,
  asked: ResourceRequest,
  status: number,
  object: KubeObject,
  warnings: readonly string[] = [],
): Promise<Answer> {
  return { kind: "json", status, body: await renderObject(viewOf(deps, asked), object), warnings };
}

export function getObject(deps: CoreDeps, { kind, namespace, name }: ResourceRequest): KubeObject {
  const entry = deps.store.get(recordKey(kind, namespace, name!));
  if (entry === undefined) throw notFound(kind, name!);
  return decodeEntry(entry);
}

async function listAnswer(deps: CoreDeps, asked: ResourceRequest): Promise<Answer> {
  const view = viewOf(deps, asked);
  const listed = listObjects(deps.store, asked.kind, asked.namespace, asked.request.query);
  return { kind: "json", status: 200, body: await renderList(view, listed), warnings: [] };
}

function watchAnswer(deps: CoreDeps, asked: ResourceRequest): Answer {
  const view = viewOf(deps, asked);
  const { query, signal } = asked.request;
  // Watching one object by its path is watching the collection for its name.
  const fieldSelector = [query["fieldSelector"], asked.name && `metadata.name=${asked.name}`].filter(Boolean).join(",");
  const events = watchObjects(deps, asked, { ...query, fieldSelector }, signal);
  return { kind: "watch", events: renderEvents(view, events) };
}

/** Those about fields, and what the kind itself advises. */
const advised = (warnings: readonly string[], { kind, subresource }: ResourceRequest, object: KubeObject): string[] => [
  ...warnings,
  ...(subresource === undefined ? (kind.warn?.(object) ?? []) : []).map(({ field, message }) => `${field}: ${message}`),
];

async function create(deps: CoreDeps, asked: ResourceRequest): Promise<Answer> {
  viewOf(deps, asked);
  const warnings = await checkedFields(asked, asked.request.body);
  const object = objectBody(asked.request.body, asked);
  const created = await createObject(deps, asked.kind, object, asked);
  return objectAnswer(deps, asked, 201, created, advised(warnings, asked, created));
}

/** PUT on an object or its status. */
export async function update(deps: CoreDeps, asked: ResourceRequest, part: Part): Promise<Answer> {
  viewOf(deps, asked);
  const { kind, namespace, name, dryRun } = asked;
  const warnings = await checkedFields(asked, asked.request.body);
  const sent = objectBody(asked.request.body, asked);
  const { object } = await modifyObject(deps, {
    kind,
    namespace,
    name: name!,
    admitted: part !== "finalize",
    dryRun,
    change: (current) => merged(kind, current, structuredClone(sent), part),
  });
  return objectAnswer(deps, asked, 200, object, advised(warnings, asked, object));
}

/** PATCH on an object or its status; applied to the newest state until no other writer comes in between. */
export async function patch(deps: CoreDeps, asked: ResourceRequest, part: Part): Promise<Answer> {
  viewOf(deps, asked);
  const { kind, version, namespace, name, dryRun } = asked;
  const applyPatch = await patchFunction(asked);
  let warnings: readonly string[] = [];
  const { object } = await modifyObject(deps, {
    kind,
    namespace,
    name: name!,
    admitted: true,
    dryRun,
    async change(current) {
      const patched = applyPatch(structuredClone(inVersion(current, kind, version)));
      warnings = await checkedFields(asked, patched);
      return merged(kind, current, objectBody(patched, asked), part);
    },
  });
  return objectAnswer(deps, asked, 200, object, advised(warnings, asked, object));
}

/** Throws 415 for a patch type that is not offered. */
export async function patchFunction({ kind, request }: ResourceRequest): Promise<(object: KubeObject) => KubeObject> {
  const contentType = request.contentType.split(";")[0]!.trim();
  if (contentType === "application/apply-patch+yaml")
    throw unsupportedMediaType(
      "server-side apply is not offered; use application/json-patch+json, application/merge-patch+json or application/strategic-merge-patch+json",
    );
  if (request.body === undefined) throw badRequest("the patch is empty");
  const { applyPatch } = await import("./patch.ts");
  return (object) => applyPatch(kind, object, contentType, request.body);
}

async function remove(deps: CoreDeps, asked: ResourceRequest): Promise<Answer> {
  viewOf(deps, asked);
  const { kind, namespace, name, request, dryRun } = asked;
  const options = deleteOptionsOf(request.body, request.query);
  const result = await deleteObject(deps, kind, namespace, name!, { ...options, dryRun: options.dryRun || dryRun });
  if (result.kind === "stored") return objectAnswer(deps, asked, 200, result.object);
  return { kind: "json", status: 200, body: deletedStatus(kind, result.object), warnings: [] };
}

async function removeCollection(deps: CoreDeps, asked: ResourceRequest): Promise<Answer> {
  const view = viewOf(deps, asked);
  const { kind, namespace, request } = asked;
  const options = deleteOptionsOf(request.body, request.query);
  const { items, resourceVersion } = await deleteCollection(deps, kind, namespace, request.query, options);
  const body = await renderList(view, { items, metadata: { resourceVersion } });
  return { kind: "json", status: 200, body, warnings: [] };
}
