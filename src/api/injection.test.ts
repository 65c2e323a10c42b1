// Who is in the mesh, by namespace, label and annotation.

import { expect, test } from "bun:test";
import { isInjected } from "./injection.ts";

const pod = (label?: string, annotation?: string, hostNetwork = false) => ({
  metadata: {
    labels: (label === undefined ? {} : { "sidecar.istio.io/inject": label }) as Record<string, string>,
    annotations: (annotation === undefined ? {} : { "sidecar.istio.io/inject": annotation }) as Record<string, string>,
  },
  spec: { hostNetwork },
});
const namespace = (value?: string, name = "shop") => ({
  metadata: { name, labels: (value === undefined ? {} : { "istio-injection": value }) as Record<string, string> },
});

test.each([
  ["a plain pod in a plain namespace is outside", pod(), namespace(), false],
  ["an enabled namespace injects", pod(), namespace("enabled"), true],
  ["a pod's label opts out", pod("false"), namespace("enabled"), false],
  ["a pod's annotation opts out", pod(undefined, "false"), namespace("enabled"), false],
  ["a pod's label wins over its annotation", pod("true", "false"), namespace(), true],
  ["a pod's label opts in", pod("true"), namespace(), true],
  ["a pod's annotation alone does not opt in", pod(undefined, "true"), namespace(), false],
  ["a disabled namespace wins over a pod's label", pod("true"), namespace("disabled"), false],
  ["the host network is never injected", pod("true", undefined, true), namespace("enabled"), false],
  ["system namespaces are never injected", pod(), namespace("enabled", "kube-system"), false],
  ["a missing namespace leaves the pod's label", pod("true"), undefined, true],
])("%s", (_name, pod, namespace, expected) => {
  expect(isInjected(pod, namespace)).toBe(expected);
});
