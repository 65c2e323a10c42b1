// Statuses of Istio's objects: what is written when, and through API and mesh that it comes, goes, and does not feed itself.

import { expect, test } from "bun:test";
import { allKinds } from "../api/kinds/all.ts";
import * as resources from "../api/resources.ts";
import { createApi } from "../apiserver/api.ts";
import { createClient } from "../client/client.ts";
import { createAuthority } from "../identity/authority.ts";
import { realClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { systemRandom } from "../kernel/random.ts";
import { createMemoryStore } from "../store/memory.ts";
import type { Finding, Subject } from "./analysis/types.ts";
import { startMesh } from "./mesh.ts";
import { onlyStatusChanged, type RuleStatus, statusFor } from "./rule-status.ts";

const now = "2026-01-01T00:00:00Z";
const object = (status?: RuleStatus): Subject & { status?: RuleStatus } => ({
  apiVersion: "networking.istio.io/v1",
  kind: "VirtualService",
  metadata: { name: "web", namespace: "shop", uid: "u", resourceVersion: "1", creationTimestamp: now, generation: 3 },
  ...(status && { status }),
});
const finding = (code: Finding["code"], message: string): Finding => ({
  code,
  subject: object(),
  field: "spec.http[0]",
  message,
  fix: undefined,
});

test("an object without findings gets no status, and one that had some is cleared", () => {
  expect(statusFor(object(), [], now)).toBeUndefined();
  const bad = statusFor(object(), [finding("IST0101", "Referenced host not found")], now)!;
  const cleared = statusFor(object(bad), [], "2026-01-01T00:00:05Z")!;
  expect(cleared.conditions?.map(({ type, status }) => [type, status])).toEqual([
    ["Reconciled", "True"],
    ["PassedAnalysis", "True"],
  ]);
  expect(cleared.validationMessages).toEqual([]);
  expect(statusFor(object(cleared), [], now)).toBeUndefined();
});

test("tells what is not carried out from what is wrong, in Istio's form", () => {
  const status = statusFor(object(), [finding("MB0101", "no delay"), finding("IST0101", "no host")], now)!;
  expect(status).toEqual({
    conditions: [
      {
        type: "Reconciled",
        status: "False",
        reason: "NotCarriedOut",
        message: "MB0101 spec.http[0]: no delay",
        lastTransitionTime: now,
      },
      {
        type: "PassedAnalysis",
        status: "False",
        reason: "ReferencedResourceNotFound",
        message: "IST0101 spec.http[0]: no host",
        lastTransitionTime: now,
      },
    ],
    validationMessages: [
      { type: { name: "NotCarriedOut", code: "MB0101" }, level: "WARNING", documentationUrl: "docs/analyze.md#mb0101" },
      {
        type: { name: "ReferencedResourceNotFound", code: "IST0101" },
        level: "ERROR",
        documentationUrl: "https://istio.io/latest/docs/reference/config/analysis/ist0101/",
      },
    ],
    observedGeneration: 3,
  });
  // Said already: the time of the transition is no difference.
  expect(
    statusFor(object(status), [finding("MB0101", "no delay"), finding("IST0101", "no host")], "later"),
  ).toBeUndefined();
  expect(statusFor(object(status), [finding("MB0101", "no delay")], "later")).toBeDefined();
});

test("an update of the status is told from one of anything else", () => {
  const old = object();
  expect(onlyStatusChanged({ ...object({ observedGeneration: 3 }) }, old)).toBe(true);
  expect(onlyStatusChanged({ metadata: { ...old.metadata, generation: 4 } }, old)).toBe(false);
  expect(onlyStatusChanged({ metadata: { ...old.metadata, labels: { a: "b" } } }, old)).toBe(false);
  expect(onlyStatusChanged(undefined, old)).toBe(false);
  expect(onlyStatusChanged(old, undefined)).toBe(false);
});

async function start() {
  const api = await createApi({
    store: createMemoryStore(),
    kinds: allKinds,
    clock: realClock,
    random: systemRandom,
    log: silentLog,
  });
  const client = createClient(api.transport);
  const authority = await createAuthority({ commonName: "mesh", clock: realClock });
  const server = await authority.issue({ ipAddresses: ["127.0.0.1"], lifetimeMs: 3_600_000, usages: ["server"] });
  const mesh = await startMesh({
    client,
    authority,
    adsHost: "127.0.0.1",
    adsPort: 0,
    adsTls: { ca: authority.certPem, cert: server.certPem, key: server.keyPem },
    clock: realClock,
    log: silentLog,
    mode: "namespaces",
  });
  await mesh.ready;
  return { client, mesh };
}

test("statuses come and go with what is wrong, and writing them starts nothing", async () => {
  const { client, mesh } = await start();
  const rule = (host: string) => ({
    apiVersion: "networking.istio.io/v1" as const,
    kind: "VirtualService" as const,
    metadata: { name: "web", namespace: "default" },
    spec: { hosts: ["web"], http: [{ route: [{ destination: { host } }] }] },
  });
  const until = async <T>(read: () => Promise<T>, reached: (value: T) => boolean): Promise<T> => {
    const deadlineMs = realClock.monotonicMs() + 6_000;
    for (;;) {
      const value = await read();
      if (reached(value)) return value;
      if (realClock.monotonicMs() > deadlineMs) throw new Error(`not reached: ${JSON.stringify(value)}`);
      await realClock.sleep(30);
    }
  };
  const statusesOf = (value: { status?: RuleStatus }): string[] =>
    (value.status?.conditions ?? []).map(({ type, status, reason }) => `${type}=${status} ${reason}`);
  const get = () =>
    client.get(resources.virtualServices, "default", "web") as Promise<Subject & { status?: RuleStatus }>;
  try {
    await client.create(resources.services, {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web", namespace: "default" },
      spec: { selector: { app: "web" }, ports: [{ name: "http", port: 80 }] },
    });
    await client.create(resources.virtualServices, rule("wbe"));
    await client.create(resources.envoyFilters, {
      apiVersion: "networking.istio.io/v1alpha3",
      kind: "EnvoyFilter",
      metadata: { name: "patch", namespace: "default" },
      spec: { priority: 1, configPatches: [{ applyTo: "CLUSTER", patch: { operation: "ADD", value: {} } }] },
    });
    const bad = await until(get, (value) => statusesOf(value).length > 0);
    expect(statusesOf(bad)).toEqual(["Reconciled=True Reconciled", "PassedAnalysis=False ReferencedResourceNotFound"]);
    expect(bad.status?.observedGeneration).toBe(1);
    const { items } = await until(
      () => client.list(resources.events, { namespace: "default" }),
      (list) => list.items.some(({ involvedObject }) => involvedObject.name === "web"),
    );
    expect(items.filter(({ involvedObject }) => involvedObject.name === "web").map(({ reason }) => reason)).toEqual([
      "ReferencedResourceNotFound",
    ]);
    const filter = await until(
      () => client.get(resources.envoyFilters, "default", "patch") as Promise<Subject & { status?: RuleStatus }>,
      (value) => statusesOf(value).length > 0,
    );
    expect(statusesOf(filter)[0]).toBe("Reconciled=False NotCarriedOut");
    // Longer than a round: nothing is written or translated again.
    await realClock.sleep(100);
    const { updates } = mesh.statistics();
    await realClock.sleep(1_500);
    expect(mesh.statistics().updates).toBe(updates);
    expect((await get()).metadata.resourceVersion).toBe(bad.metadata.resourceVersion);
    const mended = { ...(await get()), spec: rule("web").spec };
    await client.update(resources.virtualServices, mended as never);
    const good = await until(get, (value) => statusesOf(value)[1] === "PassedAnalysis=True PassedAnalysis");
    expect(good.status).toMatchObject({ validationMessages: [], observedGeneration: 2 });
  } finally {
    await mesh.close();
  }
}, 20_000);
