// The DNS server over real sockets on loopback, with a made-up upstream resolver.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { Resolver } from "node:dns/promises";
import type { EndpointSlice, Service } from "../api/types.ts";
import { realClock as clock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { systemRandom } from "../kernel/random.ts";
import { encodeAnswer, encodeName, parseQuery } from "./dns-codec.ts";
import { type DnsServer, startDnsServer } from "./dns-server.ts";
import { answerFromZone, type ZoneData } from "./dns-zone.ts";

const service = (name: string, spec: object): Service =>
  ({ apiVersion: "v1", kind: "Service", metadata: { name, namespace: "video" }, spec }) as unknown as Service;
const all = [
  service("web", { clusterIP: "10.96.7.7", ports: [{ name: "http", port: 80, protocol: "TCP" }] }),
  service("db", { clusterIP: "None", ports: [{ name: "sql", port: 3306 }] }),
  service("empty", { clusterIP: "None", ports: [] }),
  service("mirror", { type: "ExternalName", externalName: "files.example.org" }),
  service("to-entry", { type: "ExternalName", externalName: "entry.example.org" }),
  service("alias", { type: "ExternalName", externalName: "web.video.svc.cluster.local" }),
];
const slice = {
  metadata: { name: "db-1", namespace: "video" },
  addressType: "IPv4",
  ports: [{ name: "sql", port: 3306, protocol: "TCP" }],
  endpoints: [
    { addresses: ["10.244.1.5"], hostname: "db-0", conditions: { ready: true } },
    { addresses: ["10.244.2.6"], conditions: { ready: true } },
    { addresses: ["10.244.3.7"], conditions: { ready: false } },
  ],
} as unknown as EndpointSlice;

const data: ZoneData = {
  service: (namespace, name) => all.find((s) => s.metadata.name === name && s.metadata.namespace === namespace),
  slices: (_namespace, name) => (name === "db" ? [slice] : []),
  serviceByIp: (ip) => all.find((s) => s.spec?.clusterIP === ip),
  endpointByIp: (ip) => (ip === "10.244.1.5" ? { service: "db", namespace: "video", hostname: "db-0" } : undefined),
  hasNamespace: (namespace) => namespace === "video",
};

/** Who asked for the outside last. */
let lastAsker = "";
let server: DnsServer;
let upstream: Bun.udp.Socket<"buffer">;
let resolver: Resolver;

beforeAll(async () => {
  upstream = await Bun.udpSocket({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, message, port, from) {
        const parsed = parseQuery(message);
        if (parsed.kind !== "query") return;
        const { question } = parsed;
        const known = question.name.endsWith("example.org");
        const answers =
          known && question.type === 1
            ? [{ type: "A" as const, name: question.name, ttlSeconds: 60, address: "192.0.2.9" }]
            : [];
        const answer = { rcode: known ? 0 : 3, authoritative: false, answers, authority: [], additional: [] };
        socket.send(encodeAnswer(question, answer, 512), port, from);
      },
    },
  });
  server = await startDnsServer({
    address: "127.0.0.1",
    port: 0,
    upstreams: ["127.0.0.1"],
    upstreamPort: upstream.port,
    zone: "cluster.local",
    data,
    outside(name, from) {
      lastAsker = from;
      return name === "entry.example.org" ? ["240.240.0.1"] : undefined;
    },
    clock,
    random: systemRandom,
    log: silentLog,
  });
  resolver = new Resolver({ timeout: 500, tries: 1 });
  resolver.setServers([`127.0.0.1:${server.port}`]);
});

afterAll(() => {
  server.close();
  upstream.close();
});

const codeOf = (asked: Promise<unknown>): Promise<string> =>
  asked.then(
    () => "found",
    (error) => error.code,
  );

test("a service has its cluster IP, a headless one the addresses of its ready endpoints", async () => {
  expect(await resolver.resolve4("web.video.svc.cluster.local")).toEqual(["10.96.7.7"]);
  expect((await resolver.resolve4("db.video.svc.cluster.local")).toSorted()).toEqual(["10.244.1.5", "10.244.2.6"]);
  expect(await resolver.resolve4("db-0.db.video.svc.cluster.local")).toEqual(["10.244.1.5"]);
  expect(await resolver.resolve4("10-244-2-6.db.video.svc.cluster.local")).toEqual(["10.244.2.6"]);
});

test("named ports have SRV records", async () => {
  expect(await resolver.resolveSrv("_http._tcp.web.video.svc.cluster.local")).toEqual([
    { name: "web.video.svc.cluster.local", port: 80, priority: 0, weight: 100 },
  ]);
  const targets = (await resolver.resolveSrv("_sql._tcp.db.video.svc.cluster.local")).map((record) => record.name);
  expect(targets.toSorted()).toEqual(["10-244-2-6.db.video.svc.cluster.local", "db-0.db.video.svc.cluster.local"]);
});

test("addresses have names", async () => {
  expect(await resolver.reverse("10.96.7.7")).toEqual(["web.video.svc.cluster.local"]);
  expect(await resolver.reverse("10.244.1.5")).toEqual(["db-0.db.video.svc.cluster.local"]);
  expect(await codeOf(resolver.reverse("10.244.9.9"))).toBe("ENOTFOUND");
});

test("an alias is followed inside the cluster and outside", async () => {
  expect(await resolver.resolve4("alias.video.svc.cluster.local")).toEqual(["10.96.7.7"]);
  expect(await resolver.resolve4("mirror.video.svc.cluster.local")).toEqual(["192.0.2.9"]);
  expect(await resolver.resolveCname("mirror.video.svc.cluster.local")).toEqual(["files.example.org"]);
});

test("names outside the cluster are asked for elsewhere", async () => {
  expect(await resolver.resolve4("www.example.org")).toEqual(["192.0.2.9"]);
  expect(await codeOf(resolver.resolve4("nowhere.invalid"))).toBe("ENOTFOUND");
});

test("what is known of the outside is answered to whom it is for, before anybody else is asked", async () => {
  expect(await resolver.resolve4("entry.example.org")).toEqual(["240.240.0.1"]);
  expect(await resolver.resolve4("to-entry.video.svc.cluster.local")).toEqual(["240.240.0.1"]);
  expect(lastAsker).toBe("127.0.0.1");
});

const zoneCases: [string, number, number, number][] = [
  // name, type, rcode, answers
  ["web.video.svc.cluster.local", 1, 0, 1],
  ["web.video.svc.cluster.local", 28, 0, 0],
  ["nothing.video.svc.cluster.local", 1, 3, 0],
  ["web.other.svc.cluster.local", 1, 3, 0],
  ["empty.video.svc.cluster.local", 1, 0, 0],
  ["_tcp.web.video.svc.cluster.local", 33, 0, 0],
  ["_https._tcp.web.video.svc.cluster.local", 33, 3, 0],
  ["_http._udp.web.video.svc.cluster.local", 33, 3, 0],
  ["x.web.video.svc.cluster.local", 1, 3, 0],
  ["video.svc.cluster.local", 1, 0, 0],
  ["svc.cluster.local", 1, 0, 0],
  ["cluster.local", 6, 0, 1],
  ["cluster.local", 1, 0, 0],
  ["dns-version.cluster.local", 16, 0, 1],
  ["10-244-1-5.video.pod.cluster.local", 1, 0, 1],
  ["10-244-1-555.video.pod.cluster.local", 1, 3, 0],
  ["web.video.svc.cluster.local.video.svc.cluster.local", 1, 3, 0],
];
for (const [name, type, rcode, count] of zoneCases)
  test(`${name} type ${type} answers rcode ${rcode} with ${count} records`, () => {
    const answer = answerFromZone(data, "cluster.local", name, type)!;
    expect([answer.rcode, answer.answers.length]).toEqual([rcode, count]);
    // RFC 2308: a negative answer carries the zone's SOA, so that it may be cached.
    expect(answer.authority.map((record) => record.type)).toEqual(count === 0 ? ["SOA"] : []);
  });

test("names that are not the zone's are not answered from it", () => {
  for (const name of ["web", "cluster.local.example.org", "mycluster.local", "1.0.168.192.in-addr.arpa"])
    expect(answerFromZone(data, "cluster.local", name, 1)).toBeUndefined();
});

test("the same over TCP, also when several questions arrive in pieces", async () => {
  const query = (id: number, name: string) => {
    const message = [0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...encodeName(name), 0, 1, 0, 1];
    return [message.length >> 8, message.length & 0xff, ...message];
  };
  const bytes = Buffer.from([...query(1, "web.video.svc.cluster.local"), ...query(2, "gone.video.svc.cluster.local")]);
  const replies: Buffer[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port: server.port,
    socket: {
      data(_socket, chunk) {
        replies.push(Buffer.from(chunk));
        if (Buffer.concat(replies).length > 90) resolve();
      },
    },
  });
  for (let i = 0; i < bytes.length; i += 7) {
    socket.write(bytes.subarray(i, i + 7));
    socket.flush();
    await clock.sleep(1);
  }
  await promise;
  socket.end();
  const all = Buffer.concat(replies);
  const first = all.subarray(2, 2 + all.readUInt16BE(0));
  const second = all.subarray(4 + first.length);
  expect([first[1], first[3]! & 0xf]).toEqual([1, 0]);
  expect([...first.subarray(-4)]).toEqual([10, 96, 7, 7]);
  expect([second[1], second[3]! & 0xf]).toEqual([2, 3]);
});

test("without a resolver that answers, outside names fail at once", async () => {
  const alone = await startDnsServer({
    address: "127.0.0.1",
    port: 0,
    upstreams: ["127.0.0.1"],
    upstreamPort: 9, // nobody there
    zone: "cluster.local",
    data,
    clock,
    random: systemRandom,
    log: silentLog,
  });
  const asker = new Resolver({ timeout: 3000, tries: 1 });
  asker.setServers([`127.0.0.1:${alone.port}`]);
  const began = clock.monotonicMs();
  expect(await codeOf(asker.resolve4("www.example.org"))).toBe("ESERVFAIL");
  expect(clock.monotonicMs() - began).toBeLessThan(500);
  alone.close();
});
