// meshbed as the two ends of a mesh tunnel: a client's virtual sidecar on one node, a server's on another, mutual TLS between them.

import { readFileSync } from "node:fs";
import { systemRandom } from "../../src/kernel/random.ts";
import {
  assignment,
  cluster,
  keyPair,
  listener,
  routes,
  serverTls,
  startFixture,
  trusted,
  workload,
} from "../../src/proxy/fixture.ts";
import type { RoleOf } from "./child.ts";
import { meshChain, meshRoute } from "./mesh_chain.ts";
import { readPem } from "./pem.ts";
import { spiffe } from "./rivals.ts";

const clientAddress = "127.0.0.1";
const serverAddress = "127.0.0.3";
const clientNode = `sidecar~${clientAddress}~client.test~test.svc.cluster.local`;
const serverNode = `sidecar~${serverAddress}~server.test~test.svc.cluster.local`;

const secrets = (pem: string, ca: string) => [
  keyPair("default", readPem(pem)),
  trusted("ROOTCA", readFileSync(ca, "utf8")),
];

const nodeProxy = (address: string) =>
  ({
    role: "node",
    nodeId: `node~${address}~node~cluster.local`,
    bindMode: { nodeIp: address, mode: "ports" },
    random: systemRandom,
  }) as const;

export async function startTunnelServer({ tunnelPort, backendPort, pem, ca }: RoleOf<"tunnelServer">): Promise<void> {
  const toApplication = { name: "app", filterChainMatch: { destinationPort: backendPort } };
  const terminate = { filters: [], transportSocket: serverTls("default", "ROOTCA") };
  const inbound = meshChain("inbound", { edge: false, inbound: true }, toApplication);
  await startFixture({ workloads: [workload("test/server", serverAddress, serverNode)] }, nodeProxy(serverAddress), {
    [serverNode]: {
      listeners: [
        listener(serverAddress, tunnelPort, [terminate], { name: "connect_terminate", inbound: true }),
        listener(serverAddress, 15006, [inbound], {
          name: "virtualInbound",
          inbound: true,
          bindToPort: false,
          workload: "server;test;server;v1;Kubernetes",
        }),
      ],
      clusters: [cluster("inbound", [`127.0.0.1:${backendPort}`])],
      routes: [routes("inbound", [meshRoute("/", "inbound")])],
      secrets: secrets(pem, ca),
    },
  });
}

export async function startTunnelClient(facts: RoleOf<"tunnelClient">): Promise<void> {
  const { port, tunnelPort, backendPort, pem, ca } = facts;
  const tunnel = { address: `${serverAddress}:${tunnelPort}`, identity: spiffe("server") };
  await startFixture({ workloads: [workload("test/client", clientAddress, clientNode)] }, nodeProxy(clientAddress), {
    [clientNode]: {
      listeners: [
        listener(clientAddress, port, [meshChain("outbound", { edge: false })], {
          workload: "client;test;client;v1;Kubernetes",
        }),
      ],
      clusters: [cluster("app")],
      endpoints: [assignment("app", [`${serverAddress}:${backendPort}`], { tunnel })],
      routes: [routes("outbound", [meshRoute("/", "app")])],
      secrets: secrets(pem, ca),
    },
  });
}
