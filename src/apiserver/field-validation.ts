// The fieldValidation parameter: unknown and duplicate fields refuse the write, come back as warnings, or are let pass.

import { isRecord } from "./body.ts";
import { badRequest, invalid } from "./failure.ts";
import type { ResourceRequest } from "./types.ts";

/** Warnings to send along. Throws 400 in Strict mode. Callers inside the process send no text and are not checked. */
export async function checkedFields(asked: ResourceRequest, object: unknown): Promise<string[]> {
  const { kind, request } = asked;
  const mode = request.query["fieldValidation"] || "Warn";
  if (mode !== "Strict" && mode !== "Warn" && mode !== "Ignore")
    throw invalid({ group: "meta.k8s.io", plural: "options", kind: "Options" }, "", [
      {
        field: "fieldValidation",
        reason: "FieldValueNotSupported",
        message: `Unsupported value: "${mode}": supported values: "Ignore", "Warn", "Strict"`,
      },
    ]);
  if (mode === "Ignore" || request.bodyText === undefined || !isRecord(object)) return [];
  const { fieldProblems } = await import("./fields.ts");
  const problems = fieldProblems(kind, object, request.bodyText);
  if (problems.length > 0 && mode === "Strict") throw badRequest(`strict decoding error: ${problems.join(", ")}`);
  return problems;
}
