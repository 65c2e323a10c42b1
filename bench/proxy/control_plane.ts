// The other end of a mesh gateway's ADS stream.

import { realClock } from "../../src/kernel/clock.ts";
import { silentLog } from "../../src/kernel/log.ts";
import { snapshotOf } from "../../src/proxy/fixture.ts";
import { memorySnapshots } from "../../src/xds/memory.ts";
import { startAdsServer } from "../../src/xds/server.ts";
import type { RoleOf } from "./child.ts";
import { gatewayConfiguration } from "./gateway.ts";
import { gatewayNode } from "./mesh_gateway.ts";
import { adsTls } from "./pem.ts";

export async function startControlPlane(facts: RoleOf<"controlPlane">): Promise<void> {
  const source = memorySnapshots();
  source.set(gatewayNode, snapshotOf(gatewayConfiguration(facts.gateway)));
  await startAdsServer({
    host: "127.0.0.1",
    port: facts.adsPort,
    tls: adsTls(facts),
    source,
    authorize: () => true,
    log: silentLog,
    clock: realClock,
  });
}
