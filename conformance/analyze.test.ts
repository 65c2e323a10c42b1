// What a person is told about mistakes: by kubectl when applying, by `meshbed analyze`, by the object itself.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { run, startTestbed, type Testbed, until } from "./testbed.ts";

let bed: Testbed;
beforeAll(async () => {
  bed = await startTestbed();
}, 60_000);
afterAll(() => bed?.down());

const kubectl = (input: string, ...args: string[]) =>
  run(["kubectl", "--kubeconfig", join(bed.state, "kubeconfig"), ...args], { input });

const analyze = async (input: string | undefined, ...args: string[]) => {
  const { code, stdout, stderr } = await run(
    [process.execPath, join(import.meta.dir, "../src/main.ts"), "analyze", "--state", bed.state, ...args],
    input === undefined ? {} : { input },
  );
  return { code, stdout, stderr };
};

const virtualService = (host: string) => `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: cache, namespace: video }
spec: { hosts: [cache], http: [{ route: [{ destination: { host: ${host}, port: { number: 80 } } }] }] }
`;

test("the bundled testbed runs without errors or warnings", async () => {
  const { code, stdout, stderr } = await analyze(
    undefined,
    "--output-threshold",
    "Warning",
    "--failure-threshold",
    "Warning",
  );
  expect([code, stdout, stderr]).toEqual([
    0,
    expect.stringMatching(/^✓ no issues found in \d+ objects of the testbed\n$/),
    "",
  ]);
});

test("a file is held against what runs before it is applied", async () => {
  expect((await analyze(virtualService("cache"), "-A", "-")).code).toBe(0);
  const { code, stdout } = await analyze(virtualService("cahce"), "-A", "-");
  expect(code).toBe(79);
  expect(stdout).toContain('Referenced host not found: "cahce"');
  expect(stdout).toContain('fix: did you mean "cache"?');
});

test("what is applied all the same says so in its status and an Event, until it is mended", async () => {
  expect((await kubectl(virtualService("cahce"), "apply", "-f", "-")).code).toBe(0);
  const condition = (): Promise<string> =>
    bed.kubectl(
      "-n",
      "video",
      "get",
      "virtualservice",
      "cache",
      "-o",
      'jsonpath={.status.conditions[?(@.type=="PassedAnalysis")].reason}',
    );
  await until(
    "the status says what is wrong",
    10_000,
    async () => (await condition()) === "ReferencedResourceNotFound",
  );
  const described = await until("the Event is there", 5_000, async () => {
    const text = await bed.kubectl("-n", "video", "describe", "virtualservice", "cache");
    return text.includes("Warning  ReferencedResourceNotFound") && text;
  });
  expect(described).toContain('Referenced host not found: "cahce"');
  expect((await analyze(undefined)).code).toBe(79);
  await kubectl(virtualService("cache"), "apply", "-f", "-");
  await until("the status is cleared", 10_000, async () => (await condition()) === "PassedAnalysis");
  expect((await analyze(undefined)).code).toBe(0);
}, 60_000);

test("kubectl prints what is accepted with a warning, and what is refused with its field", async () => {
  const rule = (policy: string) => `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: warned, namespace: video }
spec: { host: cache, trafficPolicy: { loadBalancer: ${policy} } }
`;
  const warned = await kubectl(rule("{ simple: LEAST_CONN }"), "apply", "--dry-run=server", "-f", "-");
  expect([warned.code, warned.stderr]).toEqual([
    0,
    expect.stringContaining(
      "Warning: spec.trafficPolicy.loadBalancer.simple: LEAST_CONN is deprecated; use LEAST_REQUEST",
    ),
  ]);
  const refused = await kubectl(
    rule("{ consistentHash: { useSourceIp: true, maglev: { tableSize: 4 } } }"),
    "apply",
    "-f",
    "-",
  );
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain("spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: Invalid value: 4");
});
