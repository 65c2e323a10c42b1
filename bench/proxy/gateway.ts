// meshbed as a gateway, with the configuration of one in a mesh.

import type { Cluster } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { systemRandom } from "../../src/kernel/random.ts";
import {
  type Configuration,
  cluster,
  keyPair,
  listener,
  routes,
  serverTls,
  startFixture,
} from "../../src/proxy/fixture.ts";
import type { GatewayFacts, RoleOf } from "./child.ts";
import { collectorCluster, meshChain, meshRoute } from "./mesh_chain.ts";
import { readPem } from "./pem.ts";
import { routePath } from "./rivals.ts";

export function gatewayConfiguration(facts: GatewayFacts): Configuration {
  const { port, backendPort, pem, routes: routesBefore = 0, idleClusters = 0, telemetry } = facts;
  const chain = pem === undefined ? {} : { transportSocket: serverTls("gateway") };
  const idle: Cluster[] = Array.from({ length: idleClusters }, (_, i) =>
    cluster(`outbound|80||service-${i}.test.svc.cluster.local`, [`127.0.1.${i % 250}:80`]),
  );
  const paths = Array.from({ length: routesBefore }, (_, i) => routePath(i));
  const backend = [`127.0.0.1:${backendPort}`];
  return {
    listeners: [
      listener("127.0.0.1", port, [meshChain("main", { edge: true }, chain, telemetry)], {
        workload: "gateway;bench;gateway;v1;Kubernetes",
      }),
    ],
    clusters: [cluster("app", backend), cluster(collectorCluster, backend), ...idle],
    routes: [
      routes(
        "main",
        [...paths, "/"].map((path) => meshRoute(path, "app")),
      ),
      ...idle.map(({ name }) => routes(name, [meshRoute("/", name)], [name])),
    ],
    secrets: pem === undefined ? [] : [keyPair("gateway", readPem(pem))],
  };
}

export async function startGateway(facts: RoleOf<"gateway">): Promise<void> {
  await startFixture(gatewayConfiguration(facts), { random: systemRandom });
}
