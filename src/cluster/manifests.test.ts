// Manifests: read with their places, applied like kubectl would, and left alone when only the user has changed the object.
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allKinds } from "../api/kinds/all.ts";
import { configMaps, namespaces } from "../api/resources.ts";
import { createApi } from "../apiserver/api.ts";
import { createClient } from "../client/client.ts";
import { realClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { seededRandom } from "../kernel/random.ts";
import { createMemoryStore } from "../store/memory.ts";
import { applyManifest, manifestFiles, parseManifests } from "./manifests.ts";

test("documents, lists and empty documents are read, each with its line", () => {
  const text =
    "---\n# nothing\n---\napiVersion: v1\nkind: Namespace\nmetadata: { name: a }\n---\napiVersion: v1\nkind: List\nitems:\n  - { apiVersion: v1, kind: ConfigMap, metadata: { name: b } }\n";
  expect(parseManifests(text, "x.yaml").map(({ source, object }) => [source, object.metadata.name])).toEqual([
    ["x.yaml:4", "a"],
    ["x.yaml:8", "b"],
  ]);
});

const mistakes: [string, string, RegExp][] = [
  ["broken YAML", "a: [1\n", /^x\.yaml:\d: /],
  ["a missing kind", "apiVersion: v1\nmetadata: { name: a }\n", /^x\.yaml:1: 'kind' is missing/],
  ["a missing name", "apiVersion: v1\nkind: Pod\nmetadata: {}\n", /^x\.yaml:1: 'metadata\.name' is missing \(Pod\)/],
];
for (const [name, text, expected] of mistakes)
  test(`${name} is refused with its place`, () => {
    expect(() => parseManifests(text, "x.yaml")).toThrow(expected);
  });

test("a folder gives its manifests in order, nothing else; a missing one is an error", () => {
  const folder = mkdtempSync(join(tmpdir(), "manifests-"));
  for (const name of ["20-b.yaml", "10-a.yml", "notes.md", "meshbed.yaml", "30-c.json"])
    writeFileSync(join(folder, name), "");
  expect(manifestFiles(folder)).toEqual(["10-a.yml", "20-b.yaml", "30-c.json"].map((name) => join(folder, name)));
  rmSync(folder, { recursive: true });
  expect(() => manifestFiles(folder)).toThrow(/no such file or folder/);
});

test("applying creates, leaves a user's change alone, and merges when the manifest changes", async () => {
  const api = await createApi({
    store: createMemoryStore(),
    kinds: allKinds,
    clock: realClock,
    random: seededRandom(1),
    log: silentLog,
  });
  const client = createClient(api.transport);
  const resourceOf = (_apiVersion: string, kind: string) => allKinds.find((candidate) => candidate.kind === kind);
  const apply = (data: string) =>
    applyManifest(
      client,
      parseManifests(`{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: ${data}}`, "x")[0]!,
      resourceOf,
    );
  expect((await client.get(namespaces, undefined, "default")).metadata.name).toBe("default");
  expect(await apply("{x: '1'}")).toBe("created");
  await client.patch(configMaps, "default", "a", { data: { x: "user" } });
  expect(await apply("{x: '1'}")).toBe("unchanged");
  expect((await client.get(configMaps, "default", "a")).data).toEqual({ x: "user" });
  expect(await apply("{x: '2'}")).toBe("configured");
  expect((await client.get(configMaps, "default", "a")).data).toEqual({ x: "2" });
  await expect(apply("{x: {y: z}}")).rejects.toThrow(/^x:1: ConfigMap a: /);
  const unknown = parseManifests("{apiVersion: v9, kind: Thing, metadata: {name: a}}", "x")[0]!;
  await expect(applyManifest(client, unknown, resourceOf)).rejects.toThrow(
    'x:1: no matches for kind "Thing" in version "v9"',
  );
  await api.close();
});
