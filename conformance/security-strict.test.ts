// STRICT closes every way into a workload that is not mutual TLS of the mesh: each is tried open first, then shut, while the mesh goes on.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createAuthority } from "../src/identity/authority.ts";
import { realClock } from "../src/kernel/clock.ts";
import { type clients, insiders, outsiders, type SecurityBed, startSecurityBed } from "./security-bed.ts";
import { Load, until } from "./testbed.ts";

let bed: SecurityBed;
const folder = mkdtempSync(join(tmpdir(), "meshbed-strict-"));
beforeAll(async () => {
  bed = await startSecurityBed(["--clients", "1"]);
  // A machine of no node that sends to pods and services by way of one.
  for (const range of ["10.244.0.0/16", "10.96.0.0/12"])
    await bed.meshbed("exec", "client1", "--", "ip", "route", "add", range, "via", "172.20.0.11");
}, 90_000);
afterAll(async () => {
  await bed?.down();
  rmSync(folder, { recursive: true, force: true });
});

interface Way {
  name: string;
  isOpen(): Promise<boolean>;
}

/** Both of the server's protocols, from pods. */
function waysOfPods(): Way[] {
  const { serverIp, serviceIp } = bed;
  const urls = [
    "http://server.sec/",
    `http://${serviceIp}/`,
    `http://${serverIp}:8080/`,
    "tcp://server.sec:9000",
    `tcp://${serverIp}:9000`,
  ];
  return outsiders.flatMap((client) =>
    urls.map((url) => ({
      name: `pod ${client} → ${url}`,
      isOpen: async () =>
        url.startsWith("tcp:") ? bed.heard(client, url) : (await bed.status(client, { url })) === 200,
    })),
  );
}

/** curl's own words tell HTTP and the TCP server's line. */
const script = (urls: readonly string[]) =>
  urls.map((url) => `curl -s -m 2 --http0.9 -w ' %{http_code}\\n' '${url}' | tr '\\n' ' '; echo`).join("; ");

/** Everything a machine can dial, in one go: "url: answer". */
async function tryFrom(machine: string, urls: readonly string[]): Promise<Map<string, boolean>> {
  const { stdout } = await bed.meshbed("exec", machine, "--", "sh", "-c", script(urls));
  const lines = stdout.trimEnd().split("\n");
  expect(lines.length).toBe(urls.length);
  return new Map(urls.map((url, i) => [`${machine} → ${url}`, /"path":|heard/.test(lines[i]!)]));
}

const machineUrls = (): Record<string, string[]> => {
  const { serverIp, serviceIp, nodePorts } = bed;
  const pod = [`http://${serverIp}:8080/`, `http://${serverIp}:9000/`];
  const service = [`http://${serviceIp}/`, `http://${serviceIp}:9000/`];
  const ports = ["172.20.0.10", "172.20.0.11", "172.20.0.12"].flatMap((ip) =>
    Object.values(nodePorts).map((port) => `http://${ip}:${port}/`),
  );
  return {
    worker1: [...pod, ...service, ...ports],
    worker2: [...pod, ...service, ...ports],
    master: [...pod, ...service],
    client1: [...pod, ...ports],
  };
};

/** Never open: nothing is meant to listen there for others. */
const shutUrls = (): Record<string, string[]> => ({
  worker1: ["http://127.0.0.1:8080/", "http://127.0.0.1:9000/", `http://127.0.0.1:${bed.nodePorts.http}/`],
  client1: [`http://${bed.serviceIp}/`],
});

async function tunnelWays(): Promise<Way[]> {
  const authority = await createAuthority({ commonName: "another mesh", clock: realClock });
  const uris = ["spiffe://cluster.local/ns/sec/sa/near"];
  const pair = await authority.issue({ uris, lifetimeMs: 3_600_000, usages: ["client"] });
  const cert = join(folder, "cert.pem");
  const key = join(folder, "key.pem");
  writeFileSync(cert, pair.certPem);
  writeFileSync(key, pair.keyPem);
  const through = `--proxy https://${bed.serverIp}:15008 --proxy-insecure --proxytunnel`;
  const options = { "no certificate": "", "a certificate of another mesh": `--proxy-cert ${cert} --proxy-key ${key}` };
  return ["worker1", "worker2", "client1"].flatMap((machine) =>
    Object.entries(options).map(([what, option]) => ({
      name: `${machine} → tunnel with ${what}`,
      async isOpen() {
        const command = `curl -s -m 2 ${through} ${option} http://${bed.serverIp}:8080/; curl -s -m 2 -o /dev/null -w '%{http_code}' http://${bed.serverIp}:15008/`;
        const { stdout } = await bed.meshbed("exec", machine, "--", "sh", "-c", command);
        return stdout !== "000";
      },
    })),
  );
}

async function openWays(): Promise<Map<string, boolean>> {
  const open = new Map<string, boolean>();
  await Promise.all([
    ...waysOfPods().map(async ({ name, isOpen }) => open.set(name, await isOpen())),
    ...Object.entries(machineUrls()).map(async ([machine, urls]) => {
      for (const [name, isOpen] of await tryFrom(machine, urls)) open.set(name, isOpen);
    }),
  ]);
  return open;
}

const those = (ways: Map<string, boolean>, isOpen: boolean): string[] =>
  [...ways].flatMap(([name, open]) => (open === isOpen ? [name] : []));

test("every plain way is open without it, none with it, and neither mesh nor probes notice", async () => {
  await until("all ways are open", 10_000, async () => {
    const shut = those(await openWays(), false);
    if (shut.length > 0) throw new Error(`shut: ${shut.join(", ")}`);
    return true;
  });
  const headers = { host: "server.test" };
  const load = new Load(`${bed.url}/`, { workers: 2, pauseMs: 10, requestsMax: 5_000, headers });
  await bed.object("PeerAuthentication", "default", { mtls: { mode: "STRICT" } });
  let tried = 0;
  await until("no way is open", 10_000, async () => {
    const ways = await openWays();
    tried = ways.size;
    const open = those(ways, true);
    if (open.length > 0) throw new Error(`open: ${open.join(", ")}`);
    return true;
  });
  for (const [machine, urls] of Object.entries(shutUrls())) {
    expect(those(await tryFrom(machine, urls), true)).toEqual([]);
    tried += urls.length;
  }
  for (const { name, isOpen } of await tunnelWays()) {
    expect(`${name}: ${await isOpen()}`).toBe(`${name}: false`);
    tried++;
  }
  for (const client of insiders) {
    expect(`${client} ${await bed.status(client)}`).toBe(`${client} 200`);
    expect(`${client} ${await bed.heard(client)}`).toBe(`${client} true`);
    // The pod's own address is no service's: it is dialled in plain text (Istio: PassthroughCluster).
    expect(`${client} ${await bed.heard(client, `tcp://${bed.serverIp}:9000`)}`).toBe(`${client} false`);
  }
  const { sent, failures } = await load.stop();
  console.log(`  ${tried} ways closed; ${sent} requests through the mesh meanwhile, ${failures.length} failed`);
  expect(failures).toEqual([]);
  expect(sent).toBeGreaterThan(50);
  const { status } = JSON.parse(await bed.kubectl("get", "pod", "server", "-n", "sec", "-o", "json"));
  const [container] = status.containerStatuses;
  expect([container.ready, container.restartCount]).toEqual([true, 0]);
  await bed.remove("PeerAuthentication", "default");
}, 60_000);

/** A client's view of HTTP and TCP: "200 true". */
const view = async (client: (typeof clients)[number]) => `${await bed.status(client)} ${await bed.heard(client)}`;
const sees = (client: (typeof clients)[number], expected: string) =>
  until(`${client} sees ${expected}`, 8_000, async () => {
    const seen = await view(client);
    if (seen !== expected) throw new Error(seen);
    return (await view(client)) === expected;
  });

test("workload before namespace before root namespace; UNSET inherits; the port before all", async () => {
  const strict = { mtls: { mode: "STRICT" } };
  const own = { selector: { matchLabels: { app: "server" } } };
  await bed.object("PeerAuthentication", "default", strict, { namespace: "istio-system" });
  await sees("outside/near", "0 false");
  await bed.object("PeerAuthentication", "default", { mtls: { mode: "UNSET" } });
  await sees("outside/far", "0 false");
  await bed.object("PeerAuthentication", "default", { mtls: { mode: "PERMISSIVE" } });
  await sees("outside/near", "200 true");
  await bed.object("PeerAuthentication", "server", { ...own, ...strict });
  await sees("outside/far", "0 false");
  await bed.object("PeerAuthentication", "server", { ...own, ...strict, portLevelMtls: { 9000: { mode: "DISABLE" } } });
  await sees("outside/near", "0 true");
  expect(await view("sec/near")).toBe("200 true");
  expect(await view("other/far")).toBe("200 true");
  await bed.object("PeerAuthentication", "server", { ...own, portLevelMtls: { 8080: { mode: "STRICT" } } });
  await sees("outside/near", "0 true");
  await bed.remove("PeerAuthentication", "server");
  // DISABLE: the mesh itself speaks plain text, so nobody has a name.
  await bed.object("PeerAuthentication", "default", { mtls: { mode: "DISABLE" } });
  await bed.object("AuthorizationPolicy", "named", { ...own, rules: [{ from: [{ source: { principals: ["*"] } }] }] });
  await sees("sec/near", "403 false");
  await sees("sec/far", "403 false");
  await bed.remove("PeerAuthentication", "default");
  await bed.remove("PeerAuthentication", "default", "istio-system");
  await sees("sec/near", "200 true");
  await sees("outside/near", "403 false");
  await bed.remove("AuthorizationPolicy", "named");
}, 60_000);
