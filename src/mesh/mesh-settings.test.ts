// MeshConfig as users write it.

import { expect, test } from "bun:test";
import type { ConfigMap } from "../api/types.ts";
import { readSettings } from "./mesh-settings.ts";

const configMap = (mesh: string): ConfigMap => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: {
    name: "istio",
    namespace: "istio-system",
    uid: "u",
    resourceVersion: "1",
    creationTimestamp: "2026-01-01T00:00:00Z",
  },
  data: { mesh },
});

test("nothing said means Istio's defaults", () => {
  expect(readSettings(undefined)).toEqual({ settings: {}, problems: [] });
  expect(readSettings(configMap(" \n"))).toEqual({ settings: {}, problems: [] });
});

test("fields are read by Istio's names, and one that nobody reads is said", () => {
  const { settings, problems } = readSettings(
    configMap("outboundTrafficPolicy:\n  mode: REGISTRY_ONLY\ningressClass: istio\n"),
  );
  expect(settings?.outboundTrafficPolicy?.mode).toBe("REGISTRY_ONLY");
  expect(problems.map(({ message }) => message)).toEqual(["data.mesh.ingressClass: is not carried out"]);
});

test.each([
  ["a: [", "is not YAML"],
  ["- list", "is no mapping of fields"],
])("%j is not used", (text, reason) => {
  const { settings, problems } = readSettings(configMap(text));
  expect(settings).toBeUndefined();
  expect(problems[0]?.message).toContain(reason);
});
