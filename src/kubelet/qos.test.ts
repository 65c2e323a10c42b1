// Quality of service classes.

import { expect, test } from "bun:test";
import type { Pod } from "../api/types.ts";
import { qosClassOf } from "./qos.ts";

const podOf = (spec: object, more: object = {}): Pod =>
  ({
    metadata: { name: "web-0", namespace: "video", uid: "u" },
    spec: { containers: [], ...spec },
    ...more,
  }) as unknown as Pod;

const resources = (requests: object | undefined, limits: object | undefined) => ({ resources: { requests, limits } });
const full = { cpu: "1", memory: "1Gi" };
const classes: [string, object[], string][] = [
  ["nothing asked for", [{}], "BestEffort"],
  ["limits equal requests", [resources(full, { cpu: "1000m", memory: "1024Mi" })], "Guaranteed"],
  ["limits alone", [resources(undefined, full)], "Guaranteed"],
  ["a request alone", [resources({ cpu: "1" }, undefined)], "Burstable"],
  ["one container without", [resources(full, full), {}], "Burstable"],
  ["a request below its limit", [resources({ cpu: "1", memory: "1Mi" }, full)], "Burstable"],
];
for (const [what, containers, expected] of classes)
  test(`${what}: ${expected}`, () => {
    expect(qosClassOf(podOf({ containers }))).toBe(expected as never);
  });
