// Security policies against real traffic: who may call, by identity, path and token; and plain text that STRICT shuts out.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import type { Pod } from "../src/api/types.ts";
import { Load, startTestbed, type Testbed, until } from "./testbed.ts";

const effectMs = 5_000;
const gateway = "cluster.local/ns/istio-system/sa/istio-ingressgateway";
const web = { selector: { matchLabels: { app: "web" } } };

let testbed: Testbed;
beforeAll(async () => {
  testbed = await startTestbed();
}, 60_000);
afterAll(() => testbed?.down());

const policy = (kind: string, name: string, spec: object) =>
  testbed.apply(
    JSON.stringify({
      apiVersion: "security.istio.io/v1",
      kind,
      metadata: { name, namespace: "video" },
      spec,
    }),
  );
const remove = (kind: string, name: string) => testbed.kubectl("delete", kind, name, "-n", "video");

async function status(path = "/api/version", headers: Record<string, string> = {}): Promise<number> {
  const response = await fetch(testbed.url + path, { headers });
  await response.arrayBuffer();
  return response.status;
}
/** All web pods alike: several requests in a row. */
async function settles(expected: number, path?: string, headers?: Record<string, string>): Promise<void> {
  await until(`${path ?? "requests"} answered with ${expected}`, effectMs, async () => {
    for (let i = 0; i < 10; i++) if ((await status(path, headers)) !== expected) return false;
    return true;
  });
}

/**
 * A pod without a sidecar that asks for every URL, round after round, and logs what it was answered; 000: it was not let in.
 * On the node of one of the web's pods: there a connection meets no other node's proxy.
 */
const outsidePod = (urls: readonly string[]) => {
  const ask = `curl -s -m 3 -o /dev/null -w '%{http_code} ' $u`;
  const script = `while :; do for u in ${urls.join(" ")}; do ${ask}; done; echo; sleep 0.1; done`;
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "outside", namespace: "default" },
    spec: { nodeName: "worker1", containers: [{ name: "main", image: "debian", command: ["sh", "-c", script] }] },
  });
};

/** What each URL was answered in the last rounds. */
async function fromOutside(rounds: number): Promise<string[][]> {
  const log = await testbed.kubectl("logs", "-n", "default", "outside", `--tail=${rounds}`);
  return log
    .trim()
    .split("\n")
    .map((line) => line.trim().split(" "));
}
const allAnswer = async (code: string, count: number): Promise<boolean> => {
  const rounds = await fromOutside(5);
  return rounds.length === 5 && rounds.every((codes) => codes.length === count && codes.every((each) => each === code));
};

async function webAddresses(): Promise<string[]> {
  const list = JSON.parse(await testbed.kubectl("get", "pods", "-n", "video", "-l", "app=web", "-o", "json"));
  return list.items.map((pod: Pod) => pod.status?.podIP ?? "");
}

test("a policy without rules denies everybody; one that allows the gateway's identity lets the gateway in", async () => {
  await settles(200);
  await policy("AuthorizationPolicy", "web", { ...web });
  await settles(403);
  await policy("AuthorizationPolicy", "web", { ...web, rules: [{ from: [{ source: { principals: [gateway] } }] }] });
  await settles(200);
  const other = { principals: ["cluster.local/ns/video/sa/web"] };
  await policy("AuthorizationPolicy", "web", { ...web, rules: [{ from: [{ source: other }] }] });
  await settles(403);
  await remove("authorizationpolicy", "web");
  await settles(200);
}, 40_000);

test("DENY by path wins over ALLOW, however the path is written", async () => {
  await policy("AuthorizationPolicy", "allow", { ...web, rules: [{}] });
  const paths = ["/api/version*"];
  await policy("AuthorizationPolicy", "deny", { ...web, action: "DENY", rules: [{ to: [{ operation: { paths } }] }] });
  await settles(403);
  for (const path of ["/api//version", "/api/%76ersion", "/api/x/../version", "/api/version?a=b"])
    expect(`${path} ${await status(path)}`).toBe(`${path} 403`);
  expect(await status("/api/videos")).toBe(200);
  await remove("authorizationpolicy", "deny");
  await remove("authorizationpolicy", "allow");
  await settles(200);
}, 40_000);

test("STRICT refuses plain text from outside the mesh, by service and by pod address, and the mesh goes on", async () => {
  const addresses = await webAddresses();
  const urls = ["http://web.video/healthz", ...addresses.map((ip) => `http://${ip}:8080/healthz`)];
  await testbed.apply(outsidePod(urls));
  await until("plain text is let in", 20_000, () => allAnswer("200", urls.length));
  const load = new Load(`${testbed.url}/api/version`, { workers: 2, pauseMs: 10, requestsMax: 5_000 });
  await policy("PeerAuthentication", "default", { mtls: { mode: "STRICT" } });
  await until("plain text is refused every way", 20_000, () => allAnswer("000", urls.length));
  // A node is outside the mesh, too; the kubelet of a pod's own node is let in for its probes.
  for (const ip of addresses) {
    const argv = ["curl", "-s", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", `http://${ip}:8080/healthz`];
    expect((await testbed.meshbed("exec", "master", "--", ...argv)).stdout).toBe("000");
  }
  const { sent, failures } = await load.stop();
  console.log(`  ${urls.length} ways closed; ${sent} requests through the mesh, ${failures.length} failed`);
  expect(sent).toBeGreaterThan(50);
  expect(failures).toEqual([]);
  await remove("peerauthentication", "default");
  await until("plain text is let in again", 20_000, () => allAnswer("200", urls.length));
}, 90_000);

test("a bad token is answered with 401, none with 403 where one is asked for, a good one with 200", async () => {
  const { privateKey, publicKey } = await generateKeyPair("RS256");
  const stranger = await generateKeyPair("RS256");
  const jwks = JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: "1", alg: "RS256" }] });
  const token = (key: typeof privateKey, subject: string) =>
    new SignJWT({ groups: "staff" })
      .setProtectedHeader({ alg: "RS256", kid: "1" })
      .setIssuer("https://issuer.example.com")
      .setSubject(subject)
      .setExpirationTime("10m")
      .sign(key);
  const bearer = (text: string) => ({ authorization: `Bearer ${text}` });
  const good = bearer(await token(privateKey, "alice"));
  const forged = bearer(await token(stranger.privateKey, "alice"));
  await policy("RequestAuthentication", "web", {
    ...web,
    jwtRules: [{ issuer: "https://issuer.example.com", jwks }],
  });
  await settles(401, "/api/version", forged);
  expect(await status()).toBe(200);
  expect(await status("/api/version", good)).toBe(200);
  const source = { requestPrincipals: ["https://issuer.example.com/alice"] };
  const when = [{ key: "request.auth.claims[groups]", values: ["staff"] }];
  await policy("AuthorizationPolicy", "token", { ...web, rules: [{ from: [{ source }], when }] });
  await settles(403);
  expect(await status("/api/version", good)).toBe(200);
  expect(await status("/api/version", forged)).toBe(401);
  expect(await status("/api/version", bearer(await token(privateKey, "mallory")))).toBe(403);
}, 40_000);
