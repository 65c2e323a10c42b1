// What clients speak to servers, by DestinationRule, alike on their own node and on another; trust domains; and whose address is believed.
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { createAuthority } from "../src/identity/authority.ts";
import { realClock } from "../src/kernel/clock.ts";
import { came } from "./echo.ts";
import {
  type Client,
  clients,
  effectMs,
  insiders,
  type SecurityBed,
  server,
  startSecurityBed,
} from "./security-bed.ts";
import { Load, until } from "./testbed.ts";

let bed: SecurityBed;
beforeAll(async () => {
  bed = await startSecurityBed();
}, 90_000);
afterAll(() => bed?.down());
afterEach(async () => {
  await bed.kubectl("delete", "authorizationpolicy,peerauthentication", "--all", "-n", "sec");
  await bed.kubectl("delete", "destinationrule", "--all", "-n", "sec");
});

const all = (code: number, of: readonly Client[] = clients) => Object.fromEntries(of.map((client) => [client, code]));
const named = () =>
  bed.object("AuthorizationPolicy", "named", { ...server, rules: [{ from: [{ source: { principals: ["*"] } }] }] });
const rule = (name: string, spec: object) => bed.object("DestinationRule", name, spec);

test("DISABLE and TLS of its own reach a pod as they would on another node: nobody has a name, and HTTP understands no TLS", async () => {
  await named();
  await bed.settle({ ...all(200, insiders), "outside/near": 403, "outside/far": 403 });
  await rule("server", { host: "server", trafficPolicy: { tls: { mode: "DISABLE" } } });
  await bed.settle(all(403));
  await rule("server", { host: "server", trafficPolicy: { tls: { mode: "SIMPLE", insecureSkipVerify: true } } });
  await bed.settle(all(503, insiders));
  await rule("server", { host: "server", trafficPolicy: { tls: { mode: "ISTIO_MUTUAL" } } });
  await bed.settle(all(200, insiders));
  await bed.object("PeerAuthentication", "server", { ...server, mtls: { mode: "STRICT" } });
  await rule("server", {
    host: "server",
    trafficPolicy: { portLevelSettings: [{ port: { number: 80 }, tls: { mode: "DISABLE" } }] },
  });
  await bed.settle(all(503, insiders));
  expect(await bed.heard("sec/near")).toBe(true);
}, 40_000);

test("metrics of the server's proxy say mutual_tls and who called, or none and nobody, on the same node as on another", async () => {
  const count = async (labels: Record<string, string>): Promise<number> => {
    const { stdout } = await bed.meshbed("exec", "worker1", "--", "curl", "-s", "http://172.20.0.11:15020/metrics");
    const wanted = { reporter: "destination", destination_workload: "server", ...labels };
    let sum = 0;
    for (const [, text, value] of stdout.matchAll(/^istio_requests_total\{([^}]*)\} (\S+)$/gm))
      if (Object.entries(wanted).every(([label, is]) => text!.includes(`${label}="${is}"`))) sum += Number(value);
    return sum;
  };
  const secure = (name: string, namespace: string) => ({
    connection_security_policy: "mutual_tls",
    source_workload: name,
    source_principal: `spiffe://cluster.local/ns/${namespace}/sa/${name}`,
  });
  const plain = { connection_security_policy: "none", source_workload: "unknown", source_principal: "unknown" };
  const cases: [Client, Record<string, string>][] = [
    ["sec/near", secure("near", "sec")],
    ["other/far", secure("far", "other")],
    ["outside/near", plain],
    ["outside/far", plain],
  ];
  for (const [client, labels] of cases) {
    const before = await count(labels);
    for (let i = 0; i < 3; i++) expect(await bed.status(client)).toBe(200);
    expect(`${client} ${(await count(labels)) - before}`).toBe(`${client} 3`);
  }
  await rule("server", { host: "server.sec.svc.cluster.local", trafficPolicy: { tls: { mode: "DISABLE" } } });
  await named();
  await bed.settle(all(403, ["sec/near", "sec/far"]));
  await bed.kubectl("delete", "authorizationpolicy", "named", "-n", "sec");
  await bed.settle(all(200, ["sec/near", "sec/far"]));
  const before = await count(plain);
  expect([await bed.status("sec/near"), await bed.status("sec/far")]).toEqual([200, 200]);
  expect((await count(plain)) - before).toBe(2);
}, 40_000);

test("a rule for selected clients gives their sidecars the Secret it names; a file that is not there harms its own cluster only", async () => {
  const authority = await createAuthority({ commonName: "partner", clock: realClock });
  const pair = await authority.issue({
    uris: [],
    dnsNames: ["secure.outside"],
    lifetimeMs: 3_600_000,
    usages: ["server"],
  });
  const data = (values: Record<string, string>) =>
    Object.fromEntries(Object.entries(values).map(([key, text]) => [key, Buffer.from(text).toString("base64")]));
  const secret = (namespace: string, name: string, values: Record<string, string>) => ({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name, namespace },
    data: data(values),
  });
  const container = {
    name: "echo",
    image: "meshbed/echo",
    env: [
      { name: "TLS_CERT", value: "/tls/tls.crt" },
      { name: "TLS_KEY", value: "/tls/tls.key" },
    ],
    ports: [{ containerPort: 8443 }],
    volumeMounts: [{ name: "tls", mountPath: "/tls" }],
    readinessProbe: { tcpSocket: { port: 8443 }, periodSeconds: 1 },
  };
  const items = [
    secret("outside", "tls", { "tls.crt": pair.certPem, "tls.key": pair.keyPem }),
    secret("sec", "partner", { cacert: authority.certPem }),
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "secure", namespace: "outside", labels: { app: "secure" } },
      spec: { nodeName: "worker3", containers: [container], volumes: [{ name: "tls", secret: { secretName: "tls" } }] },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "secure", namespace: "outside" },
      spec: { selector: { app: "secure" }, ports: [{ name: "http", port: 80, targetPort: 8443 }] },
    },
  ];
  await bed.apply(JSON.stringify({ apiVersion: "v1", kind: "List", items }));
  const tls = { mode: "SIMPLE", credentialName: "partner", sni: "secure.outside" };
  const host = "secure.outside.svc.cluster.local";
  await rule("partner", { host, workloadSelector: { matchLabels: { app: "far" } }, trafficPolicy: { tls } });
  const partner = { url: "http://secure.outside/" };
  await bed.settle({ "sec/far": 200 }, partner);
  // Not selected: plain HTTP, which a TLS server does not understand.
  expect(await bed.status("sec/near", partner)).not.toBe(200);
  await rule("partner", {
    host,
    workloadSelector: { matchLabels: { app: "far" } },
    trafficPolicy: { tls: { ...tls, subjectAltNames: ["else"] } },
  });
  await bed.settle({ "sec/far": 503 }, partner);
  await rule("broken", {
    host: "near.outside.svc.cluster.local",
    trafficPolicy: { tls: { mode: "SIMPLE", caCertificates: "/not/there.pem" } },
  });
  await bed.settle({ "sec/far": 503 }, { url: "http://near.outside/" });
  await rule("partner", { host, workloadSelector: { matchLabels: { app: "far" } }, trafficPolicy: { tls } });
  await bed.settle({ "sec/far": 200 }, partner);
  await bed.settle({ "sec/far": 200, "other/near": 200 });
}, 60_000);

test("the trust domain is another, its aliases and cluster.local stand for it in policies, and only its own may call", async () => {
  await bed.settings({ trustDomain: "td.example", trustDomainAliases: ["old.example"] });
  await until("certificates are of the new domain", 2 * effectMs, async () => {
    const answer = await bed.from("sec/near", { url: "http://server.sec/" });
    return (
      answer.status === 200 &&
      came(answer).headers["x-forwarded-client-cert"]?.includes("URI=spiffe://td.example/ns/sec/sa/near")
    );
  });
  await bed.settle(all(200));
  const allow = (...principals: string[]) =>
    bed.object("AuthorizationPolicy", "named", { ...server, rules: [{ from: [{ source: { principals } }] }] });
  for (const domain of ["cluster.local", "td.example", "old.example", "*.example"]) {
    await allow(`${domain}/ns/sec/sa/far`);
    await bed.settle({ ...all(403), "sec/far": 200 });
  }
  await allow("else.example/ns/sec/sa/far");
  await bed.settle(all(403));
  await bed.settings({});
  await allow("cluster.local/ns/sec/sa/far");
  await bed.settle({ ...all(403), "sec/far": 200 });
}, 60_000);

/** By then everybody knows of a change, and has the certificates it asks for. */
const settledMs = 1_500;

test("the trust domain is changed without a failed request, if each is an alias of the other on the way", async () => {
  const headers = { host: "server.test" };
  const load = new Load(`${bed.url}/`, { workers: 4, pauseMs: 5, requestsMax: 20_000, headers });
  // A connection that is kept has the certificates of its time: a client that has made none since is asked.
  const caller = async (client: Client): Promise<string> => {
    await Bun.sleep(settledMs);
    const answer = await bed.from(client, { url: "http://server.sec/" });
    return (answer.status === 200 && came(answer).headers["x-forwarded-client-cert"]) || "";
  };
  await bed.settings({ trustDomainAliases: ["td.example"] });
  await Bun.sleep(settledMs);
  await bed.settings({ trustDomain: "td.example", trustDomainAliases: ["cluster.local"] });
  expect(await caller("sec/far")).toContain("URI=spiffe://td.example/ns/sec/sa/far");
  await bed.settings({ trustDomainAliases: ["td.example"] });
  expect(await caller("other/far")).toContain("URI=spiffe://cluster.local/ns/other/sa/far");
  await bed.settings({});
  await Bun.sleep(500);
  const { sent, failures } = await load.stop();
  console.log(`  ${sent} requests while the trust domain changed twice, ${failures.length} failed`);
  expect(failures).toEqual([]);
  expect(sent).toBeGreaterThan(200);
}, 40_000);

test("remote.ip is the client's by x-forwarded-for, as far as the proxies before the gateway are trusted", async () => {
  const selector = { matchLabels: { istio: "ingressgateway" } };
  const rules = [{ from: [{ source: { remoteIpBlocks: ["203.0.113.0/24"], notRemoteIpBlocks: ["203.0.113.9"] } }] }];
  const metadata = { namespace: "istio-system" };
  // Orders to clients come by the gateway as well, which is asked nothing of here.
  await bed.object("AuthorizationPolicy", "remote", { selector, action: "DENY", rules }, metadata);
  const ask = async (forwarded: string) => (await bed.get("/", { "x-forwarded-for": forwarded })).status;
  const becomes = (code: number, forwarded: string) =>
    until(`${forwarded} is answered with ${code}`, effectMs, async () => (await ask(forwarded)) === code);
  expect(await ask("203.0.113.5")).toBe(200);
  await bed.settings({ defaultConfig: { gatewayTopology: { numTrustedProxies: 1 } } });
  await becomes(403, "203.0.113.5");
  expect([
    await ask("203.0.113.9"),
    await ask("203.0.113.5, 198.51.100.1"),
    await ask("198.51.100.1, 203.0.113.5"),
  ]).toEqual([200, 200, 403]);
  await bed.settings({ defaultConfig: { gatewayTopology: { numTrustedProxies: 2 } } });
  await becomes(403, "203.0.113.5, 198.51.100.1");
  await bed.settings({});
  await becomes(200, "203.0.113.5");
  await bed.remove("AuthorizationPolicy", "remote", "istio-system");
}, 40_000);
