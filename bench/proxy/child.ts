// A process of the benchmark that is ours: a meshbed proxy as gateway, or as one end of a mutual TLS tunnel, or the backend.
// Started with one JSON argument; see Role.

import { readFileSync } from "node:fs";
import type { Cluster } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { FileAccessLogSchema } from "#gen/xds/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { realClock } from "../../src/kernel/clock.ts";
import { silentLog } from "../../src/kernel/log.ts";
import { systemRandom } from "../../src/kernel/random.ts";
import {
  assignment,
  type Configuration,
  cluster,
  httpChain,
  keyPair,
  listener,
  pack,
  prefix,
  routes,
  serverTls,
  snapshotOf,
  startFixture,
  toCluster,
  trusted,
  workload,
} from "../../src/proxy/fixture.ts";
import { type AdsTls, connectAds } from "../../src/xds/client.ts";
import { memorySnapshots } from "../../src/xds/memory.ts";
import { serveBackend } from "./backend.ts";
import { routePath, spiffe } from "./rivals.ts";

export type Role =
  | { role: "backend"; port: number }
  | ({ role: "gateway"; port: number; backendPort: number } & GatewayFacts)
  /** A gateway that gets the configuration over ADS from a `controlPlane`, as in a mesh. */
  | { role: "meshGateway"; adsPort: number; pem: string; ca: string }
  | {
      role: "controlPlane";
      adsPort: number;
      pem: string;
      ca: string;
      port: number;
      backendPort: number;
      facts: GatewayFacts;
    }
  | { role: "tunnelClient"; port: number; tunnelPort: number; backendPort: number; pem: string; ca: string }
  | { role: "tunnelServer"; tunnelPort: number; backendPort: number; pem: string; ca: string };

export interface GatewayFacts {
  /** PEM of certificate and key: the port speaks TLS. */
  pem?: string;
  /** Routes before the one that matches. */
  routes?: number;
  /** Clusters that get no traffic. */
  idleClusters?: number;
  /** A file, in Envoy's default format. */
  accessLog?: string;
}

const clientAddress = "127.0.0.1";
const serverAddress = "127.0.0.3";
const clientNode = `sidecar~${clientAddress}~client.test~test.svc.cluster.local`;
const serverNode = `sidecar~${serverAddress}~server.test~test.svc.cluster.local`;

const gatewayNode = "router~127.0.0.1~gateway.test~test.svc.cluster.local";

/** One file holds the certificate and its key, as HAProxy wants it. */
function readPem(path: string): { certPem: string; keyPem: string } {
  const text = readFileSync(path, "utf8");
  const keyAt = text.indexOf("-----BEGIN PRIVATE KEY");
  return { certPem: text.slice(0, keyAt), keyPem: text.slice(keyAt) };
}

const secretOf = (name: string, pem: string) => keyPair(name, readPem(pem));

function adsTls(pem: string, ca: string): AdsTls {
  const { certPem, keyPem } = readPem(pem);
  return { ca: readFileSync(ca, "utf8"), cert: certPem, key: keyPem };
}

/** The tests' proxies are seeded; real ones are not. */
const production = { random: systemRandom };

/** As the mesh emits a gateway: an edge, so forwarding headers and the request id are made here; metrics are always on. */
export function gatewayConfiguration(port: number, backendPort: number, facts: GatewayFacts): Configuration {
  const { pem, routes: routesBefore = 0, idleClusters = 0, accessLog } = facts;
  const log = pack(FileAccessLogSchema, { path: accessLog ?? "" });
  const manager = {
    useRemoteAddress: true,
    ...(accessLog !== undefined && {
      accessLog: [{ name: "log", configType: { case: "typedConfig", value: log } as const }],
    }),
  };
  const chain = pem === undefined ? {} : { transportSocket: serverTls("gateway") };
  const idle: Cluster[] = Array.from({ length: idleClusters }, (_, i) =>
    cluster(`outbound|80||service-${i}.test.svc.cluster.local`, [`127.0.1.${i % 250}:80`]),
  );
  const table = Array.from({ length: routesBefore }, (_, i) => routePath(i));
  return {
    listeners: [
      listener("127.0.0.1", port, [httpChain("main", manager, chain)], {
        workload: "gateway;bench;gateway;v1;Kubernetes",
      }),
    ],
    clusters: [cluster("app", [`127.0.0.1:${backendPort}`]), ...idle],
    routes: [
      routes(
        "main",
        [...table, "/"].map((path) => ({ match: prefix(path), action: toCluster("app") })),
      ),
      ...idle.map(({ name }) => routes(name, [{ match: prefix("/"), action: toCluster(name) }], [name])),
    ],
    secrets: pem === undefined ? [] : [secretOf("gateway", pem)],
  };
}

async function startTunnelServer({ tunnelPort, backendPort, pem, ca }: Role & { role: "tunnelServer" }) {
  const inbound = httpChain("inbound", {}, {
    name: "app",
    filterChainMatch: { destinationPort: backendPort },
  } as never);
  await startFixture(
    { workloads: [workload("test/server", serverAddress, serverNode)] },
    {
      ...production,
      role: "node",
      nodeId: `node~${serverAddress}~n2~cluster.local`,
      bindMode: { nodeIp: serverAddress, mode: "ports" },
    },
    {
      [serverNode]: {
        listeners: [
          listener(serverAddress, tunnelPort, [{ filters: [], transportSocket: serverTls("default", "ROOTCA") }], {
            name: "connect_terminate",
            inbound: true,
          }),
          listener(serverAddress, 15006, [inbound], {
            name: "virtualInbound",
            inbound: true,
            bindToPort: false,
            workload: "server;test;server;v1;Kubernetes",
          }),
        ],
        clusters: [cluster("inbound", [`127.0.0.1:${backendPort}`])],
        routes: [routes("inbound", [{ match: prefix("/"), action: toCluster("inbound") }])],
        secrets: [secretOf("default", pem), trusted("ROOTCA", readFileSync(ca, "utf8"))],
      },
    },
  );
}

async function startTunnelClient({ port, tunnelPort, backendPort, pem, ca }: Role & { role: "tunnelClient" }) {
  const tunnel = { address: `${serverAddress}:${tunnelPort}`, identity: spiffe("server") };
  await startFixture(
    { workloads: [workload("test/client", clientAddress, clientNode)] },
    { ...production, role: "node", nodeId: `node~${clientAddress}~n1~cluster.local` },
    {
      [clientNode]: {
        listeners: [
          listener(clientAddress, port, [httpChain("outbound")], { workload: "client;test;client;v1;Kubernetes" }),
        ],
        clusters: [cluster("app")],
        endpoints: [assignment("app", [`${serverAddress}:${backendPort}`], { tunnel })],
        routes: [routes("outbound", [{ match: prefix("/"), action: toCluster("app") }])],
        secrets: [secretOf("default", pem), trusted("ROOTCA", readFileSync(ca, "utf8"))],
      },
    },
  );
}

async function startMeshGateway({ adsPort, pem, ca }: Role & { role: "meshGateway" }): Promise<void> {
  const shared = { log: silentLog, clock: realClock, random: systemRandom };
  const xds = connectAds({ address: `localhost:${adsPort}`, tls: adsTls(pem, ca), ...shared });
  await startFixture({}, { xds, nodeId: gatewayNode, ...production });
}

async function startControlPlane({ adsPort, pem, ca, port, backendPort, facts }: Role & { role: "controlPlane" }) {
  const { startAdsServer } = await import("../../src/xds/server.ts");
  const source = memorySnapshots();
  source.set(gatewayNode, snapshotOf(gatewayConfiguration(port, backendPort, facts)));
  const authorize = (): boolean => true;
  const tls = adsTls(pem, ca);
  await startAdsServer({ host: "127.0.0.1", port: adsPort, tls, source, authorize, log: silentLog, clock: realClock });
}

if (import.meta.main) {
  const role = JSON.parse(process.argv[2]!) as Role;
  if (role.role === "backend") serveBackend(role.port);
  else if (role.role === "gateway")
    await startFixture(gatewayConfiguration(role.port, role.backendPort, role), production);
  else if (role.role === "meshGateway") await startMeshGateway(role);
  else if (role.role === "controlPlane") await startControlPlane(role);
  else if (role.role === "tunnelServer") await startTunnelServer(role);
  else await startTunnelClient(role);
}
