// A gateway's proxy as the testbed runs it: configured over ADS.

import { realClock } from "../../src/kernel/clock.ts";
import { silentLog } from "../../src/kernel/log.ts";
import { systemRandom } from "../../src/kernel/random.ts";
import { startProxy } from "../../src/proxy/proxy.ts";
import { connectAds } from "../../src/xds/client.ts";
import type { RoleOf } from "./child.ts";
import { adsTls } from "./pem.ts";

export const gatewayNode = "router~127.0.0.1~gateway.bench~bench.svc.cluster.local";

export async function startMeshGateway(facts: RoleOf<"meshGateway">): Promise<void> {
  const shared = { log: silentLog, clock: realClock, random: systemRandom };
  const xds = connectAds({ address: `localhost:${facts.adsPort}`, tls: adsTls(facts), ...shared });
  await startProxy({
    role: "router",
    nodeId: gatewayNode,
    bindMode: { nodeIp: "127.0.0.1", mode: "ports" },
    xds,
    admin: { host: "127.0.0.1", port: 0 },
    ...shared,
  });
}
