// Which ConfigMaps are watched for BackendTLSPolicies, and how long.

import { expect, test } from "bun:test";
import type { BackendTLSPolicy, ConfigMap } from "../api/types.ts";
import type { Informer, InformerOptions } from "../client/types.ts";
import { createCaBundles } from "./ca-bundles.ts";

const policy = (...names: string[]) =>
  ({
    metadata: { name: "p", namespace: "shop" },
    spec: {
      targetRefs: [],
      validation: {
        hostname: "a.test",
        caCertificateRefs: [
          { group: "", kind: "Secret", name: "not-watched-here" },
          ...names.map((name) => ({ group: "", kind: "ConfigMap", name })),
        ],
      },
    },
  }) as unknown as BackendTLSPolicy;

test("only the ConfigMaps that policies name are watched, each once, and not longer than they are named", async () => {
  const watched = new Map<string, InformerOptions>();
  let started = 0;
  const bundles = createCaBundles(
    (_resource, selection) => {
      const name = String(selection.fieldSelector).replace("metadata.name=", "");
      watched.set(name, selection);
      started++;
      return {
        list: () => [{ metadata: { name } }] as ConfigMap[],
        synced: Promise.resolve(),
        onChange: () => () => {},
        stop: () => watched.delete(name),
      } as unknown as Informer<ConfigMap>;
    },
    () => {},
  );
  await bundles.follow([]);
  expect(watched.size).toBe(0);
  await bundles.follow([policy("a", "b"), policy("b")]);
  expect([...watched.values()].map(({ namespace, fieldSelector }) => `${namespace} ${fieldSelector}`)).toEqual([
    "shop metadata.name=a",
    "shop metadata.name=b",
  ]);
  await bundles.follow([policy("b", "c")]);
  expect([...watched.keys()]).toEqual(["b", "c"]);
  expect(bundles.list().map(({ metadata }) => metadata.name)).toEqual(["b", "c"]);
  expect(started).toBe(3);
  bundles.stop();
  expect([watched.size, bundles.list().length]).toEqual([0, 0]);
});
