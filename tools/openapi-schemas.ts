// Reads the type declarations of kubernetes-models, @kubernetes-models/istio and /gateway-api as OpenAPI schemas.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { KindDefinition } from "../src/api/kind.ts";
import type { Schema } from "../src/api/schema.ts";
import { patchMetadata } from "./openapi-patch.ts";
import { parseDeclaration } from "./typings-parser.ts";

const scalars: Record<string, Schema> = {
  "io.k8s.apimachinery.pkg.api.resource.Quantity": {
    description:
      "Quantity is a fixed-point representation of a number: digits with an optional suffix (m, k, M, G, T, Ki, Mi, Gi, Ti) or exponent.",
    oneOf: [{ type: "string" }, { type: "number" }],
    format: "quantity",
  },
  "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
    description: "IntOrString is a type that can hold an int32 or a string.",
    format: "int-or-string",
    oneOf: [{ type: "integer" }, { type: "string" }],
  },
  "io.k8s.apimachinery.pkg.apis.meta.v1.Time": { type: "string", format: "date-time", description: "RFC 3339 time." },
  "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": {
    type: "string",
    format: "date-time",
    description: "RFC 3339 time with microseconds.",
  },
  "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": { type: "object", description: "A set of fields." },
};

const typeMeta: Record<string, Schema> = {
  apiVersion: {
    type: "string",
    description:
      "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources",
  },
  kind: {
    type: "string",
    description:
      "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
  },
};

const objectMeta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/** "IIoK8sApiCoreV1Pod" → "io.k8s.api.core.v1.Pod", as the typings spell schema names. */
export function schemaNameOf(identifier: string): string {
  if (identifier === "IObjectMeta") return objectMeta;
  const api = /^IIoK8sApi([A-Z][a-z]+)(V\d+(?:alpha\d+|beta\d+)?)([A-Z].*)$/.exec(identifier);
  if (api !== null) return `io.k8s.api.${api[1]!.toLowerCase()}.${api[2]!.toLowerCase()}.${api[3]}`;
  const meta = /^IIoK8sApimachineryPkgApisMeta(V1)([A-Z].*)$/.exec(identifier);
  if (meta !== null) return `io.k8s.apimachinery.pkg.apis.meta.v1.${meta[2]}`;
  if (identifier === "IIoK8sApimachineryPkgApiResourceQuantity") return "io.k8s.apimachinery.pkg.api.resource.Quantity";
  if (identifier === "IIoK8sApimachineryPkgUtilIntstrIntOrString")
    return "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
  if (identifier === "IIoK8sApimachineryPkgRuntimeRawExtension") return "io.k8s.apimachinery.pkg.runtime.RawExtension";
  const gateway = /^IIoK8sSigsGatewayApiApis(V\d+(?:alpha\d+|beta\d+)?)([A-Z].*)$/.exec(identifier);
  if (gateway !== null) return `io.k8s.sigs.gateway-api.apis.${gateway[1]!.toLowerCase()}.${gateway[2]}`;
  throw new Error(`unknown type ${identifier}`);
}

/** All schemas that the kinds reach, by name. */
export function schemasOf(root: string, kinds: readonly KindDefinition[]): Record<string, Schema> {
  const modules = join(root, "node_modules");
  const schemas: Record<string, Schema> = {};
  const load = (name: string, file: string) => {
    if (schemas[name] !== undefined) return;
    const scalar = scalars[name];
    if (scalar !== undefined) {
      schemas[name] = scalar;
      return;
    }
    const text = readFileSync(file, "utf8");
    const imports = new Map<string, string>();
    for (const [, identifier, from] of text.matchAll(/^import \{ (\w+) \} from "([^"]+)";$/gm))
      imports.set(identifier!, fileOf(modules, dirname(file), from!));
    const isIstio = name.startsWith("io.istio.");
    const references = new Set<string>();
    const schema = parseDeclaration(text, {
      reference(identifier) {
        references.add(identifier);
        return schemaNameOf(identifier);
      },
      isFractional: (field, path) => isIstio && isFractional(field, path),
      inherited(identifier) {
        const parent = schemaNameOf(identifier);
        load(parent, imports.get(identifier) ?? "");
        return schemas[parent]!;
      },
    });
    schemas[name] = patchMetadata(name, schema);
    addIntegerFormats(modules, name, schema);
    for (const identifier of references)
      load(schemaNameOf(identifier), imports.get(identifier) ?? (schemaNameOf(identifier) === name ? file : ""));
  };
  for (const kind of kinds) {
    const group = kind.group === "" ? "" : `${kind.group}/`;
    const library = libraryOf(kind.schemaName);
    // The typings of built-in groups go by their short names: apps, coordination.k8s.io, discovery.k8s.io …
    load(kind.schemaName, join(modules, library, `${group}${kind.version}/${kind.kind}.d.ts`));
    const schema = schemas[kind.schemaName]!;
    const { apiVersion: _a, kind: _k, metadata, ...rest } = schema.properties ?? {};
    schema.properties = { ...typeMeta, metadata: metadata!, ...rest };
    schema.required = (schema.required ?? []).filter((field) => field !== "apiVersion" && field !== "kind");
    if (schema.required.length === 0) delete schema.required;
  }
  return schemas;
}

function libraryOf(schemaName: string): string {
  if (schemaName.startsWith("io.istio.")) return "@kubernetes-models/istio";
  return schemaName.startsWith("io.k8s.sigs.gateway-api.") ? "@kubernetes-models/gateway-api" : "kubernetes-models";
}

/** int32 or int64, which these typings do not say and those of @kubernetes/client-node do. */
function addIntegerFormats(modules: string, name: string, schema: Schema): void {
  const [, group, kind] = /^io\.k8s\.(?:api|apimachinery\.pkg\.apis)\.(\w+)\.v1\.(\w+)$/.exec(name) ?? [];
  if (group === undefined) return;
  const models = join(modules, "@kubernetes/client-node/dist/gen/models");
  // A class carries its group in front where two groups have one of that name.
  const prefix = group[0]!.toUpperCase() + group.slice(1);
  const file = [`V1${kind}.js`, `${prefix}V1${kind}.js`]
    .map((each) => join(models, each))
    .find((each) => existsSync(each));
  if (file === undefined) return;
  for (const [, field, format] of readFileSync(file, "utf8").matchAll(
    /"baseName": "(\w+)",\s*"type": "(?:number|Array<number>)",\s*"format": "(int32|int64)"/g,
  )) {
    const property = schema.properties?.[field!];
    const target = property?.items ?? property;
    if (target?.type === "integer") target.format = format!;
  }
}

/** Istio's doubles; every other number of the kinds served is an integer. */
function isFractional(field: string, path: readonly string[]): boolean {
  if (["value", "aggression", "minimumPercent", "randomSamplingPercentage"].includes(field)) return true;
  return field === "percent" && path.includes("retryBudget");
}

function fileOf(modules: string, folder: string, from: string): string {
  const file = from.startsWith(".") ? join(folder, from.replace(/\.js$/, ".d.ts")) : join(modules, `${from}.d.ts`);
  return existsSync(file) ? file : "";
}
