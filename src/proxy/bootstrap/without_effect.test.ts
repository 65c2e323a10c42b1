// The table of fields without effect is what the proxy's sources say: a field that no source names is read by nobody.
import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRegistry, type DescMessage } from "@bufbuild/protobuf";
import { file_envoy_config_bootstrap_v3_bootstrap as bootstrapFile } from "#gen/xds/envoy/config/bootstrap/v3/bootstrap_pb.js";
import { files } from "#gen/xds/extensions.js";
import { fieldsWithoutEffect } from "./without_effect.ts";

const proxy = join(import.meta.dir, "..");
const table = join(import.meta.dir, "without_effect.ts");

/** Everything the data path names, comments left out. */
const words = new Set(
  [...new Bun.Glob("**/*.ts").scanSync(proxy)]
    .filter((path) => !/(\.test|fixture)\.ts$|^(bootstrap|admin)\//.test(path))
    .flatMap(
      (path) =>
        readFileSync(join(proxy, path), "utf8")
          .replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, "")
          .match(/\w+/g) ?? [],
    ),
);

const registry = createRegistry(bootstrapFile, ...bootstrapFile.dependencies, ...files);

function messageOf(typeName: string): DescMessage {
  const known = registry.getMessage(typeName) ?? reachable(typeName);
  if (!known) throw new Error(`no message ${typeName}`);
  return known;
}

/** Messages of files that the registry's only import. */
function reachable(typeName: string): DescMessage | undefined {
  const seen = new Set<DescMessage>();
  const queue = [...registry].filter((type) => type.kind === "message");
  for (let next = queue.pop(); next; next = queue.pop()) {
    if (next.typeName === typeName) return next;
    if (seen.has(next)) continue;
    seen.add(next);
    for (const { message } of next.fields) if (message) queue.push(message);
  }
  return undefined;
}

test("fields without effect are exactly those that no source of the proxy names (renew with: UPDATE=1 bun test src/proxy/bootstrap)", () => {
  const current = Object.fromEntries(
    Object.keys(fieldsWithoutEffect).map((typeName) => [
      typeName,
      messageOf(typeName)
        .fields.filter(({ jsonName, localName }) => !words.has(jsonName) && !words.has(localName))
        .map(({ name }) => name),
    ]),
  );
  if (process.env["UPDATE"]) {
    const rows = Object.entries(current).map(
      ([type, names]) => `  "${type}": [${names.map((name) => `"${name}"`).join(", ")}],\n`,
    );
    const source = readFileSync(table, "utf8");
    const start = source.indexOf("= {\n") + 4;
    writeFileSync(table, `${source.slice(0, start)}${rows.join("")}${source.slice(source.indexOf("\n};", start) + 1)}`);
    return;
  }
  expect(current).toEqual(fieldsWithoutEffect as Record<string, string[]>);
});
