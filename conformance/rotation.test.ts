// What must not be noticed by a request: certificates that are replaced, rules that are pushed; and certificates that must open nothing.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { virtualServices } from "../src/api/resources.ts";
import type { Pod } from "../src/api/types.ts";
import { createClient } from "../src/client/client.ts";
import { httpTransport } from "../src/client/http.ts";
import { loadKubeconfig } from "../src/client/kubeconfig.ts";
import { createAuthority, loadAuthority } from "../src/identity/authority.ts";
import { realClock, VirtualClock } from "../src/kernel/clock.ts";
import type { StreamStatus } from "../src/xds/server.ts";
import { type EchoBed, startEcho } from "./echo.ts";
import { root, until } from "./testbed.ts";

let bed: EchoBed;
beforeAll(async () => {
  bed = await startEcho({ args: ["--nodes", "2"] });
}, 60_000);
afterAll(() => bed?.down());

const effectMs = 5_000;
const dayMs = 86_400_000;
const host = "rotation.test";

const configure = (...items: object[]) => bed.apply(JSON.stringify({ apiVersion: "v1", kind: "List", items }));
const istio = (kind: string, name: string, spec: object) => ({
  apiVersion: "networking.istio.io/v1",
  kind,
  metadata: { name, namespace: "echo" },
  spec,
});
const settings = (mesh: string) => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name: "istio", namespace: "istio-system" },
  data: { mesh },
});

/** So many GETs a second for so long, each begun in its time whatever became of those before; `seen` is told every answer. */
async function load(
  perSecond: number,
  until: () => boolean,
  seen: (status: number, headers: Headers, body: string) => void,
) {
  const running = new Set<Promise<void>>();
  const startedMs = performance.now();
  let sent = 0;
  const failures: string[] = [];
  while (!until()) {
    while (sent < ((performance.now() - startedMs) / 1000) * perSecond) {
      sent++;
      const one = fetch(`${bed.url}/`, { headers: { host }, signal: AbortSignal.timeout(10_000) })
        .then(async (response) => seen(response.status, response.headers, await response.text()))
        .catch((error) => void failures.push(String(error)))
        .finally(() => running.delete(one));
      running.add(one);
    }
    await Bun.sleep(5);
  }
  await Promise.all(running);
  return { sent, failures };
}

/** Route and header say the same number; both are of one rule. */
const rule = (version: "v1" | "v2") =>
  istio("VirtualService", "alternating", {
    hosts: [host],
    gateways: ["echo"],
    http: [
      {
        route: [{ destination: { host: "server", subset: version } }],
        headers: { request: { set: { "x-rule": version } }, response: { set: { "x-rule": version } } },
      },
    ],
  });

test("1,000 changes of a rule under 200 requests a second: none fails, each sees one rule whole", async () => {
  await configure(rule("v1"));
  await until("the rule holds", effectMs, async () => (await bed.get(host, "/")).headers["x-rule"] === "v1");
  const pushes = 1_000;
  const counts: Record<string, number> = {};
  const mixtures: string[] = [];
  let pushed = 0;
  const pushing = (async () => {
    const client = createClient(httpTransport(await loadKubeconfig(join(bed.state, "kubeconfig"))));
    for (; pushed < pushes; pushed++) {
      const { spec } = rule(pushed % 2 === 0 ? "v2" : "v1");
      await client.patch(virtualServices, "echo", "alternating", { spec });
    }
  })();
  const { sent, failures } = await load(
    200,
    () => pushed >= pushes,
    (status, headers, body) => {
      const came = status === 200 ? JSON.parse(body) : {};
      const parts = [headers.get("x-rule"), headers.get("x-version"), came.headers?.["x-rule"], came.version];
      if (status !== 200 || new Set(parts).size !== 1) mixtures.push(`${status} ${parts}`);
      counts[String(parts[0])] = (counts[String(parts[0])] ?? 0) + 1;
    },
  );
  await pushing;
  console.log(
    `  ${pushes} changes, ${sent} requests: ${JSON.stringify(counts)}, ${failures.length} failed, ${mixtures.length} mixed`,
  );
  expect(failures).toEqual([]);
  expect(mixtures).toEqual([]);
  // Both were seen often: the changes took effect one by one.
  expect(Math.min(counts["v1"] ?? 0, counts["v2"] ?? 0)).toBeGreaterThan(sent / 10);
}, 60_000);

/** Versions of the secrets that the control plane has told the gateway, which it has taken. */
async function secretVersion(): Promise<string | undefined> {
  const { stdout } = await bed.meshbed("proxy-status", "-o", "json");
  const gateway = (JSON.parse(stdout) as StreamStatus[]).find(({ nodeId }) => nodeId.startsWith("router~"));
  const state = gateway?.types.find(({ typeUrl }) => typeUrl.endsWith(".Secret"))?.state;
  return state?.kind === "acked" ? state.version : undefined;
}

test("certificates that are replaced every 3 s under 200 requests a second through new tunnels: none fails", async () => {
  await configure(
    settings("defaultConfig: { proxyMetadata: { SECRET_TTL: 6s } }"),
    rule("v1"),
    istio("DestinationRule", "server", {
      host: "server",
      // Every tenth request makes a connection, and shows a certificate.
      trafficPolicy: { connectionPool: { http: { maxRequestsPerConnection: 10 } } },
      subsets: ["v1", "v2"].map((version) => ({ name: version, labels: { version } })),
    }),
  );
  const first = await secretVersion();
  await until("the lifetime holds", effectMs, async () => (await secretVersion()) !== first);
  const versions = new Set<string>();
  const wrong: string[] = [];
  const endMs = performance.now() + 11_000;
  let watching = true;
  const watch = (async () => {
    while (watching) {
      const version = await secretVersion();
      if (version !== undefined) versions.add(version);
      await Bun.sleep(300);
    }
  })();
  const { sent, failures } = await load(
    200,
    () => performance.now() > endMs,
    (status, _headers, body) => status !== 200 && wrong.push(`${status} ${body}`),
  );
  watching = false;
  await watch;
  console.log(`  ${versions.size - 1} rotations, ${sent} requests, ${failures.length + wrong.length} failed`);
  expect([failures, wrong]).toEqual([[], []]);
  expect(versions.size - 1).toBeGreaterThanOrEqual(3);
  await configure(settings(""));
}, 60_000);

test("a tunnel port opens to a workload of this mesh and to nobody else, and the proxy says why", async () => {
  const list = JSON.parse(await bed.kubectl("get", "pods", "-n", "echo", "-l", "app=server,version=v2", "-o", "json"));
  const pod = list.items[0] as Pod;
  const { podIP: ip, hostIP } = pod.status as { podIP: string; hostIP: string };
  const node = pod.spec!.nodeName!;
  await configure({
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "friends", namespace: "echo" },
    spec: {
      selector: { matchLabels: { app: "server" } },
      rules: [{ from: [{ source: { principals: ["cluster.local/ns/echo/sa/friend"] } }] }],
    },
  });
  const authority = async (clock: typeof realClock) =>
    loadAuthority({
      certPem: readFileSync(join(bed.state, "pki/mesh-ca.crt"), "utf8"),
      keyPem: readFileSync(join(bed.state, "pki/mesh-ca.key"), "utf8"),
      clock,
    });
  const now = realClock.now();
  const [own, past, future] = await Promise.all(
    [realClock, new VirtualClock(now - dayMs), new VirtualClock(now + dayMs)].map(authority),
  );
  const stranger = await createAuthority({ commonName: "mesh-ca", clock: realClock });
  const issue = async (name: string, from: typeof stranger, names: { uris?: string[]; dnsNames?: string[] }) => {
    const { certPem: cert, keyPem: key } = await from.issue({ ...names, lifetimeMs: dayMs / 2, usages: ["client"] });
    return { name, cert, key };
  };
  const friend = { uris: ["spiffe://cluster.local/ns/echo/sa/friend"] };
  const attempts = [
    { name: "none" },
    await issue("wrong CA", stranger, friend),
    await issue("expired", past!, friend),
    await issue("not yet valid", future!, friend),
    await issue("foreign trust domain", own!, { uris: ["spiffe://elsewhere.org/ns/echo/sa/friend"] }),
    await issue("no SPIFFE id", own!, { dnsNames: ["friend.echo"] }),
    await issue("wrong SPIFFE id", own!, { uris: ["spiffe://cluster.local/ns/echo/sa/foe"] }),
    await issue("friend", own!, friend),
  ];
  const file = join(bed.state, "attempts.json");
  const run = async (tried: typeof attempts): Promise<Record<string, string>> => {
    const order = { ip, target: `${ip}:8080`, path: `/?key=${crypto.randomUUID()}`, attempts: tried };
    writeFileSync(file, JSON.stringify(order));
    const script = join(root, "conformance/rotation/tunnel.ts");
    const { stdout, stderr } = await bed.meshbed("exec", node, "--", process.execPath, script, file);
    if (stdout === "") throw new Error(stderr);
    return JSON.parse(stdout);
  };
  const foe = attempts.filter(({ name }) => name === "wrong SPIFFE id");
  await until("the policy holds", effectMs, async () => (await run(foe))["wrong SPIFFE id"]?.includes("403"));
  const { friend: friendly, ...others } = await run(attempts);
  // The only one who got through is the first whom the app has seen.
  expect(friendly).toStartWith("HTTP/1.1 200");
  expect(friendly).toContain('"times":1,');
  expect(Object.keys(others)).toHaveLength(attempts.length - 1);
  for (const [name, answer] of Object.entries(others)) expect(`${name}: ${answer}`).not.toContain("200");
  expect(others["wrong SPIFFE id"]).toContain("RBAC: access denied");
  const log = await bed.meshbed("logs", `proxy-${node}`, "-n", "200");
  for (const reason of [
    /fail_verify_no_cert .*DID_NOT_RETURN_A_CERTIFICATE/,
    /fail_verify_error .*unable to verify the first certificate/,
    /fail_verify_error .*certificate has expired/,
    /fail_verify_error .*certificate is not yet valid/,
    /fail_verify_san .*spiffe:\/\/elsewhere.org\/ns\/echo\/sa\/friend/,
    /fail_verify_san .*DNS:friend.echo/,
  ])
    expect(log.stdout).toMatch(reason);
  const metrics = await bed.meshbed("exec", node, "--", "curl", "-s", `http://${hostIP}:15020/metrics`);
  const counts = [...metrics.stdout.matchAll(/^envoy_listener_ssl_(\w+)\{.*\} (\d+)$/gm)].map(
    ([, kind, count]) => `${kind} ${count}`,
  );
  expect(counts.sort()).toEqual(["fail_verify_error 3", "fail_verify_no_cert 1", "fail_verify_san 2"]);
}, 30_000);
