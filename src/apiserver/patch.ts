// The patch types of the API: JSON patch (RFC 6902), merge patch (RFC 7386) and, for built-in kinds, strategic merge patch.

import jsonPatch, { type Operation } from "fast-json-patch";
import type { KindDefinition } from "../api/kind.ts";
import type { KubeObject } from "../api/object.ts";
import { schemaNamed } from "../api/schema.ts";
import { messageOf } from "../kernel/errors.ts";
import { ApiFailure, badRequest, tooLarge, unsupportedMediaType } from "./failure.ts";
import { type Json, strategicMerge } from "./strategic-merge.ts";

/** As kube-apiserver's maxJSONPatchOperations. */
const operationsMax = 10_000;
/** Deeper patches are refused before anything recurses into them. */
const depthMax = 100;

const jsonPatchType = "application/json-patch+json";
const mergePatchType = "application/merge-patch+json";
const strategicPatchType = "application/strategic-merge-patch+json";

const isRecord = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Built-in kinds carry the merge keys that a strategic merge needs; custom resources do not. */
const isBuiltIn = (kind: KindDefinition) => kind.schemaName.startsWith("io.k8s.");

/**
 * `object` (the caller's own copy) after the patch; `patch` is left as it is. Throws ApiFailure: 400 malformed, 413 too many
 * operations, 415 not offered for this kind, 422 not applicable (also a failed `test`).
 */
export function applyPatch(kind: KindDefinition, object: KubeObject, contentType: string, patch: unknown): KubeObject {
  checkDepth(patch, 0);
  switch (contentType) {
    case jsonPatchType:
      return applyJsonPatch(object, patch);
    case mergePatchType:
      if (!isRecord(patch)) throw badRequest("a merge patch must be an object");
      return mergePatch(object, patch) as KubeObject;
    case strategicPatchType:
      if (!isBuiltIn(kind)) break;
      if (!isRecord(patch)) throw badRequest("a strategic merge patch must be an object");
      return strategicMerge(object, structuredClone(patch), schemaNamed(kind.schemaName)) as unknown as KubeObject;
  }
  const offered = [jsonPatchType, mergePatchType, ...(isBuiltIn(kind) ? [strategicPatchType] : [])];
  throw unsupportedMediaType(
    `the body of the request was in an unknown format - accepted media types include: ${offered.join(", ")}`,
  );
}

function checkDepth(value: unknown, depth: number): void {
  if (typeof value !== "object" || value === null) return;
  if (depth > depthMax) throw badRequest(`the patch is nested deeper than ${depthMax} levels`);
  for (const [key, each] of Object.entries(value)) {
    if (key === "__proto__") throw badRequest('"__proto__" is not a field');
    checkDepth(each, depth + 1);
  }
}

function applyJsonPatch(object: KubeObject, patch: unknown): KubeObject {
  if (!Array.isArray(patch)) throw badRequest("a JSON patch must be an array of operations");
  if (patch.length > operationsMax) throw tooLargePatch(patch.length);
  for (const operation of patch)
    if (!isRecord(operation) || typeof operation["op"] !== "string" || typeof operation["path"] !== "string")
      throw badRequest("each operation of a JSON patch needs op and path");
  try {
    const operations = structuredClone(patch) as Operation[];
    return jsonPatch.applyPatch(object, operations, true, true, true).newDocument;
  } catch (error) {
    throw new ApiFailure(
      422,
      "Invalid",
      `the server rejected our request due to an error in our request: ${describe(error)}`,
    );
  }
}

function tooLargePatch(count: number): ApiFailure {
  const failure = tooLarge(operationsMax);
  failure.status.message = `The allowed maximum operations in a JSON patch is ${operationsMax}, got ${count}`;
  return failure;
}

/** The library's message goes on with a dump of the whole object. */
function describe(error: unknown): string {
  const { name, operation } = error as { name?: string; operation?: { op?: string; path?: string } };
  const first = messageOf(error).split("\n")[0]!;
  if (operation?.op === undefined) return first;
  if (name === "TEST_OPERATION_FAILED") return `testing value ${operation.path} failed: test failed`;
  return `${operation.op} ${operation.path}: ${first}`;
}

/** RFC 7386 section 2. */
function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isRecord(patch)) return structuredClone(patch);
  const result: Json = isRecord(target) ? target : {};
  for (const [name, value] of Object.entries(patch))
    if (value === null) delete result[name];
    else result[name] = mergePatch(Object.hasOwn(result, name) ? result[name] : undefined, value);
  return result;
}
