// Generates gen/openapi/ (schemas and OpenAPI v3 documents of the served kinds) from the typings of kubernetes-models. Run by `npm ci`.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { KindDefinition } from "../src/api/kind.ts";
import { allKinds } from "../src/api/kinds/all.ts";
import type { Schema } from "../src/api/schema.ts";
import { pathsOf } from "./openapi-paths.ts";
import { schemasOf } from "./openapi-schemas.ts";

const root = join(import.meta.dir, "..");
const out = join(root, "gen/openapi");
const stamp = join(out, ".stamp");

const key = JSON.stringify([
  allKinds.map(({ group, servedVersions, kind, plural, schemaName, namespaced, hasStatus, scale }) => [
    ...[group, servedVersions, kind, plural, schemaName, namespaced, hasStatus, scale],
  ]),
  ...["kubernetes-models", "@kubernetes-models/istio", "@kubernetes-models/gateway-api", "@kubernetes/client-node"].map(
    (name) => JSON.parse(readFileSync(join(root, "node_modules", name, "package.json"), "utf8")).version,
  ),
  ...["openapi-gen", "openapi-paths", "openapi-schemas", "openapi-patch", "typings-parser"].map((name) =>
    Bun.hash(readFileSync(join(import.meta.dir, `${name}.ts`))).toString(),
  ),
]);
if (existsSync(stamp) && readFileSync(stamp, "utf8") === key) process.exit(0);

const started = performance.now();
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

/** Structure only: what decoding, strictness and strategic merge need; small, as the API server loads it when it starts to write. */
const all = schemasOf(root, allKinds);
writeFileSync(join(out, "schemas.json"), JSON.stringify(withoutDescriptions(all)));

const groupVersions = new Map<string, KindDefinition[]>();
for (const kind of allKinds)
  for (const version of kind.servedVersions) {
    const path = kind.group === "" ? `api/${version}` : `apis/${kind.group}/${version}`;
    groupVersions.set(path, [...(groupVersions.get(path) ?? []), kind]);
  }

const index: Record<string, { file: string; hash: string }> = {};
for (const [path, kinds] of groupVersions) {
  const version = path.slice(path.lastIndexOf("/") + 1);
  const text = JSON.stringify(documentOf(kinds, version));
  const file = `${path.replaceAll("/", "__")}.json`;
  writeFileSync(join(out, file), text);
  index[path] = { file, hash: new Bun.CryptoHasher("sha256").update(text).digest("hex").toUpperCase() };
}
writeFileSync(join(out, "index.json"), JSON.stringify(index));
writeFileSync(stamp, key);
console.log(`gen/openapi written in ${Math.round(performance.now() - started)} ms`);

/** The OpenAPI v3 document of one group and version: paths of its kinds and every schema they reach. */
function documentOf(kinds: readonly KindDefinition[], version: string): object {
  const schemas: Record<string, Schema> = {};
  const paths: Record<string, object> = {};
  const add = (name: string) => {
    if (schemas[name] !== undefined) return;
    schemas[name] = all[name]!;
    for (const [, target] of JSON.stringify(all[name]).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) add(target!);
  };
  for (const kind of kinds) {
    add(kind.schemaName);
    const gvk = { group: kind.group, kind: kind.kind, version };
    // One schema serves all versions; only its name and its group-version-kind differ.
    const name =
      version === kind.version ? kind.schemaName : kind.schemaName.replace(`.${kind.version}.`, `.${version}.`);
    const schema = { ...schemas[kind.schemaName], "x-kubernetes-group-version-kind": [gvk] };
    if (name !== kind.schemaName) delete schemas[kind.schemaName];
    schemas[name] = schema;
    Object.assign(paths, pathsOf(kind, version, name));
  }
  return { openapi: "3.0.0", info: { title: "Kubernetes", version: "v1.32.0" }, paths, components: { schemas } };
}

function withoutDescriptions<T>(value: T): T {
  if (Array.isArray(value)) return value.map(withoutDescriptions) as T;
  if (typeof value !== "object" || value === null) return value;
  const copy: Record<string, unknown> = {};
  for (const [name, each] of Object.entries(value)) {
    // A property may itself be called "description"; the text of one is a string, the schema of one is not.
    if (name === "description" && typeof each === "string") continue;
    copy[name] = withoutDescriptions(each);
  }
  return copy as T;
}
