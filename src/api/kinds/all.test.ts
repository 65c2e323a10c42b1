// The list of kinds as a whole.

import { expect, test } from "bun:test";
import type { KubeObject } from "../object.ts";
import * as resources from "../resources.ts";
import { allKinds } from "./all.ts";

test("every resource that clients know is served under the same names and scope", () => {
  const served = new Set(allKinds.map((k) => `${k.group}/${k.version}/${k.kind}/${k.plural}/${k.namespaced}`));
  for (const resource of Object.values(resources)) {
    if (typeof resource === "function") continue;
    const { group, version, kind, plural, namespaced } = resource;
    expect(served).toContain(`${group}/${version}/${kind}/${plural}/${namespaced}`);
  }
});

test("no two kinds of one group share a name", () => {
  const names = allKinds.flatMap((k) =>
    [...new Set([k.plural, k.singular, ...k.shortNames])].map((name) => `${k.group}/${name}`),
  );
  expect(names.length - new Set(names.filter((name) => name !== "")).size).toBe(0);
});

test.each(allKinds.map((kind) => [kind.kind, kind] as const))(
  "%s prints its columns for a bare object",
  (_name, kind) => {
    const bare = {
      apiVersion: kind.version,
      kind: kind.kind,
      metadata: {
        name: "a",
        namespace: "b",
        uid: "u",
        resourceVersion: "1",
        creationTimestamp: "2026-01-01T00:00:00Z",
      },
      involvedObject: {},
    } as unknown as KubeObject;
    for (const column of kind.columns) expect(column.value(bare, Date.UTC(2026, 0, 1))).toBeDefined();
    kind.applyDefaults(structuredClone(bare));
  },
);
