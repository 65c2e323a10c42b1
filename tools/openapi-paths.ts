// The paths of a kind in its OpenAPI document: enough for kubectl to know verbs, field validation and patch kinds.
import type { KindDefinition } from "../src/api/kind.ts";

const query = (name: string, description: string) => ({
  name,
  in: "query",
  description,
  schema: { type: "string", uniqueItems: true },
});

const writeParameters = [
  query(
    "dryRun",
    "When present, indicates that modifications should not be persisted. Valid values are: - All: all dry run stages will be processed",
  ),
  query("fieldManager", "fieldManager is a name associated with the actor or entity that is making these changes."),
  query(
    "fieldValidation",
    "fieldValidation instructs the server on how to handle objects in the request (POST/PUT/PATCH) containing unknown or duplicate fields. Valid values are: Ignore, Warn, Strict.",
  ),
];

const pathParameter = (name: string, description: string) => ({
  name,
  in: "path",
  description,
  required: true,
  schema: { type: "string", uniqueItems: true },
});

/** Which patches a kind takes: custom resources have no strategic merge. */
function patchTypes(kind: KindDefinition): string[] {
  const types = ["application/json-patch+json", "application/merge-patch+json"];
  if (kind.schemaName.startsWith("io.k8s.")) types.push("application/strategic-merge-patch+json");
  return types;
}

export function pathsOf(kind: KindDefinition, version: string, schemaName: string): Record<string, object> {
  const gvk = { group: kind.group, version, kind: kind.kind };
  const reference = { $ref: `#/components/schemas/${schemaName}` };
  const json = { "application/json": { schema: reference } };
  const answer = { "200": { description: "OK", content: json } };
  const base = kind.group === "" ? `/api/${version}` : `/apis/${kind.group}/${version}`;
  const collection = `${base}${kind.namespaced ? "/namespaces/{namespace}" : ""}/${kind.plural}`;
  const scope = kind.namespaced ? "Namespaced" : "";
  const operation = (verb: string, action: string, suffix: string, rest: object = {}) => ({
    operationId: `${verb}${kind.group.split(".")[0]}${version}${scope}${kind.kind}${suffix}`,
    "x-kubernetes-action": action,
    "x-kubernetes-group-version-kind": gvk,
    responses: answer,
    ...rest,
  });
  const patchContent = Object.fromEntries(patchTypes(kind).map((type) => [type, { schema: { type: "object" } }]));
  const one = (suffix: string) => ({
    get: operation("read", "get", suffix),
    put: operation("replace", "put", suffix, {
      parameters: writeParameters,
      requestBody: { content: json, required: true },
    }),
    patch: operation("patch", "patch", suffix, {
      parameters: writeParameters,
      requestBody: { content: patchContent, required: true },
    }),
    parameters: parametersOf(kind, true),
  });
  const paths: Record<string, object> = {
    [collection]: {
      get: operation("list", "list", ""),
      post: operation("create", "post", "", {
        parameters: writeParameters,
        requestBody: { content: json, required: true },
      }),
      delete: operation("deletecollection", "deletecollection", ""),
      parameters: parametersOf(kind, false),
    },
    [`${collection}/{name}`]: { ...one(""), delete: operation("delete", "delete", "") },
  };
  if (kind.namespaced)
    paths[`${base}/${kind.plural}`] = { get: operation("list", "list", "ForAllNamespaces"), parameters: [] };
  if (kind.hasStatus) paths[`${collection}/{name}/status`] = one("Status");
  return paths;
}

function parametersOf(kind: KindDefinition, named: boolean): object[] {
  const parameters: object[] = [];
  if (kind.namespaced)
    parameters.push(pathParameter("namespace", "object name and auth scope, such as for teams and projects"));
  if (named) parameters.push(pathParameter("name", `name of the ${kind.kind}`));
  return parameters;
}
