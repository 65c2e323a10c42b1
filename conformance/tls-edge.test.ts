// The Gateway of examples/istio/tls.yaml from outside: every TLS mode, versions, cipher suites, server names, redirects, new certificates.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { came, type EchoBed, startEcho } from "./echo.ts";
import { Load, type Output, run, until } from "./testbed.ts";

const folder = mkdtempSync(join(tmpdir(), "meshbed-tls-"));
const file = (name: string): string => join(folder, name);
const hosts = ["simple", "mutual", "optional", "named", "new", "old", "mesh", "nothing", "ended", "passed", "unknown"];
let bed: EchoBed;
let port = "";

beforeAll(async () => {
  const starting = startEcho();
  await Promise.all([authority("ca"), authority("foreign-ca")]);
  await Promise.all([
    ...["simple", "renewed", "mutual", "server"].map((name) =>
      certificate(name, "ca", hosts.map((host) => `DNS:${host}.test`).join()),
    ),
    certificate("client", "ca", "DNS:client.test"),
    certificate("stranger", "foreign-ca", "DNS:client.test"),
  ]);
  bed = await starting;
  port = new URL(bed.tlsUrl).port;
  await tlsSecret("simple-cert", "simple");
  await secret("mutual-cert", { "tls.crt": "mutual.crt", "tls.key": "mutual.key", "ca.crt": "ca.crt" });
  await secret("server-cert", { "tls.crt": "server.crt", "tls.key": "server.key" }, "echo");
  await bed.example("tls.yaml");
  await bed.kubectl("rollout", "status", "deployment/server-tls", "-n", "echo", "--timeout=20s");
  await until("the gateway's certificate is there", 5_000, async () => (await curl("simple.test")).code === 0);
}, 90_000);
afterAll(async () => {
  await bed?.down();
  rmSync(folder, { recursive: true, force: true });
});

async function openssl(...args: string[]): Promise<Output> {
  const output = await run(["openssl", ...args], { cwd: folder });
  if (output.code !== 0) throw new Error(`openssl ${args.join(" ")}: ${output.stderr}`);
  return output;
}
const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
const authority = (name: string) =>
  openssl("req", "-x509", ...newKey, "-keyout", `${name}.key`, "-out", `${name}.crt`, "-subj", `/CN=${name}`);
const certificate = (name: string, issuer: string, names: string) =>
  openssl(
    ...["req", "-x509", ...newKey, "-keyout", `${name}.key`, "-out", `${name}.crt`, "-subj", `/CN=${name}`],
    ...["-CA", `${issuer}.crt`, "-CAkey", `${issuer}.key`, "-addext", `subjectAltName=${names}`, "-days", "1"],
    ...["-addext", "basicConstraints=critical,CA:FALSE"],
  );

const secret = (name: string, files: Record<string, string>, namespace = "istio-system", type = "Opaque") =>
  bed.apply(
    JSON.stringify({
      ...{ apiVersion: "v1", kind: "Secret", type, metadata: { name, namespace } },
      stringData: Object.fromEntries(
        Object.entries(files).map(([key, path]) => [key, readFileSync(file(path), "utf8")]),
      ),
    }),
  );
const tlsSecret = (name: string, of: string) =>
  secret(name, { "tls.crt": `${of}.crt`, "tls.key": `${of}.key` }, "istio-system", "kubernetes.io/tls");

/** As a browser would: by server name, checking the certificate. */
function curl(host: string, path = "/", ...args: string[]): Promise<Output> {
  const target = ["--resolve", `${host}:${port}:127.0.0.1`, `https://${host}:${port}${path}`];
  return run(["curl", "-sS", "-m", "10", "--cacert", file("ca.crt"), ...args, ...target]);
}
const as = (name: string): string[] => ["--cert", file(`${name}.crt`), "--key", file(`${name}.key`)];
const versionOf = (output: Output): string => (output.code === 0 ? JSON.parse(output.stdout).version : "refused");

async function handshake(host: string, ...args: string[]): Promise<string> {
  const target = ["-connect", `127.0.0.1:${port}`, "-servername", host];
  const { stdout, stderr } = await run(["openssl", "s_client", ...target, ...args, "-brief"], { input: "" });
  const text = stdout + stderr;
  const [, version] = /Protocol version: (\S+)/.exec(text) ?? [];
  const [, cipher] = /Ciphersuite: (\S+)/.exec(text) ?? [];
  return version ? `${version} ${cipher}` : "refused";
}

test("SIMPLE: the certificate of the server name, and requests go on; the scheme is https", async () => {
  expect(versionOf(await curl("simple.test"))).toMatch(/^v[12]$/);
  expect((await curl("simple.test", "/scheme")).stdout).toBe("https on 443");
  const headers = JSON.parse((await curl("simple.test")).stdout).headers;
  expect(headers["x-forwarded-proto"]).toBe("https");
});

test("MUTUAL: only who has a certificate of the authority gets in; the server is told who it is", async () => {
  expect(versionOf(await curl("mutual.test", "/", ...as("client")))).toMatch(/^v[12]$/);
  const { headers } = JSON.parse((await curl("mutual.test", "/", ...as("client"))).stdout);
  expect(headers["x-forwarded-client-cert"]).toContain("DNS=client.test");
  expect(versionOf(await curl("mutual.test"))).toBe("refused");
  expect(versionOf(await curl("mutual.test", "/", ...as("stranger")))).toBe("refused");
});

test("OPTIONAL_MUTUAL: without a certificate one gets in, with a wrong one not", async () => {
  expect(versionOf(await curl("optional.test"))).toMatch(/^v[12]$/);
  expect(versionOf(await curl("optional.test", "/", ...as("client")))).toMatch(/^v[12]$/);
  expect(versionOf(await curl("optional.test", "/", ...as("stranger")))).toBe("refused");
});

test("subjectAltNames: a good certificate for another name is refused", async () => {
  expect(versionOf(await curl("named.test", "/", ...as("client")))).toBe("refused");
});

test("versions and cipher suites are those of the server name", async () => {
  expect(await handshake("simple.test")).toMatch(/^TLSv1.3 /);
  expect(await handshake("simple.test", "-tls1_2")).toMatch(/^TLSv1.2 ECDHE-ECDSA-(AES|CHACHA)/);
  expect(await handshake("simple.test", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")).toBe("refused");
  expect(await handshake("new.test")).toMatch(/^TLSv1.3 /);
  expect(await handshake("new.test", "-tls1_2")).toBe("refused");
  expect(await handshake("old.test")).toBe("TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384");
  expect(await handshake("old.test", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256", "-tls1_2")).toBe("refused");
});

test("a server name that no server has is refused, as is one whose Secret is missing; an Event says the latter", async () => {
  expect(versionOf(await curl("unknown.test"))).toBe("refused");
  expect(versionOf(await curl("nothing.test"))).toBe("refused");
  const events = await bed.kubectl("get", "events", "-n", "echo", "-o", "jsonpath={.items[*].message}");
  expect(events).toContain("no-such-cert");
});

test("the host asked for must be one of the server's: through another's connection 421 sends a browser to open its own", async () => {
  const answer = async (host: string) =>
    (await curl("simple.test", "/", "-H", `Host: ${host}`, "-o", "/dev/null", "-w", "%{http_code}")).stdout;
  expect(await answer("mutual.test")).toBe("421");
  expect(await answer("elsewhere.test")).toBe("404");
});

test("PASSTHROUGH: the server's own certificate reaches the client; a name without a route does not", async () => {
  expect(versionOf(await curl("passed.test"))).toBe("tls");
  const served = await run(
    ["openssl", "s_client", "-connect", `127.0.0.1:${port}`, "-servername", "passed.test", "-showcerts"],
    { input: "" },
  );
  expect(served.stdout).toContain("CN = server");
  expect(versionOf(await curl("other-passed.test"))).toBe("refused");
});

test("TLS that ends at the gateway: what is inside goes on as TCP", async () => {
  const heard = await run(
    ["openssl", "s_client", "-connect", `127.0.0.1:${port}`, "-servername", "ended.test", "-quiet"],
    { input: "hello\n" },
  );
  expect(`${heard.stdout}${heard.stderr}`).toMatch(/v1 server-v1-\S+ heard hello/);
});

test("ISTIO_MUTUAL: a client of the mesh gets in by its identity, nobody from outside does", async () => {
  const url = "http://istio-ingressgateway.istio-system:443/";
  const [answer] = await bed.from("red", { url, headers: { host: "mesh.test" } });
  expect(answer!.status).toBe(200);
  expect(came(answer!).headers["x-forwarded-client-cert"]).toContain("spiffe://cluster.local/ns/echo/sa/default");
  expect(versionOf(await curl("mesh.test", "/", ...as("client"), "--insecure"))).toBe("refused");
});

test("httpsRedirect: plain requests for the host are sent to https, others are not", async () => {
  const { status, headers } = await bed.get("simple.test", "/path?q=1");
  expect([status, headers["location"]]).toEqual([301, "https://simple.test/path?q=1"]);
  expect((await bed.get("red.client", "/healthz")).status).toBe(200);
});

test("a renewed certificate is served at once, and no request fails meanwhile", async () => {
  const subject = async () => {
    const target = ["-connect", `127.0.0.1:${port}`, "-servername", "simple.test"];
    return (await run(["openssl", "s_client", ...target], { input: "" })).stdout.match(/subject=CN = (\w+)/)?.[1];
  };
  expect(await subject()).toBe("simple");
  const load = new Load(bed.url.replace(/\d+$/, new URL(bed.url).port), {
    ...{ workers: 4, pauseMs: 2, requestsMax: 10_000 },
    headers: { host: "red.client" },
  });
  const startedMs = performance.now();
  await tlsSecret("simple-cert", "renewed");
  await until("the new certificate is served", 2_000, async () => (await subject()) === "renewed");
  console.log(
    `  new certificate served ${(performance.now() - startedMs).toFixed(0)} ms after kubectl apply was started`,
  );
  const answers = await Promise.all(Array.from({ length: 10 }, () => curl("simple.test")));
  for (const answer of answers) expect(versionOf(answer)).toMatch(/^v[12]$/);
  const { sent, failures } = await load.stop();
  expect(sent).toBeGreaterThan(0);
  expect(failures).toEqual([]);
});
