// A node's proxy in a process of its own: says when a change has been applied in every one of its workloads.

import { readFileSync } from "node:fs";
import { realClock } from "../../src/kernel/clock.ts";
import { stderrLog } from "../../src/kernel/log.ts";
import { systemRandom } from "../../src/kernel/random.ts";
import { startProxy } from "../../src/proxy/proxy.ts";
import { connectAds } from "../../src/xds/client.ts";
import { shortType } from "../../src/xds/protocol.ts";
import type { XdsConnection } from "../../src/xds/types.ts";
import { nodeName, sidecars } from "./objects.ts";

const [address = "", tlsFile = ""] = process.argv.slice(2);
const clock = realClock;
const random = systemRandom;
const log = stderrLog("warn");
const say = (line: object) => console.log(JSON.stringify(line));

// Whoever measures may end before all is settled.
process.stdin.on("end", () => process.exit(0)).resume();

/** Sidecars that have applied a change of this type since all had; resources they got with it. */
const applied = new Map<string, { nodes: number; resources: number }>();

function observed(connection: XdsConnection): XdsConnection {
  return {
    ...connection,
    open(nodeId, metadata) {
      const source = connection.open(nodeId, metadata);
      if (!nodeId.startsWith("sidecar~")) return source;
      return {
        ...source,
        subscribe: (typeUrl, names, handler) =>
          source.subscribe(typeUrl, names, (change) => {
            const refused = handler(change);
            const type = shortType(typeUrl);
            const count = applied.get(type) ?? { nodes: 0, resources: 0 };
            count.nodes++;
            count.resources += change.changed.length;
            applied.set(type, count);
            if (count.nodes === sidecars) {
              applied.delete(type);
              say({ type, resources: count.resources, atMs: performance.timeOrigin + performance.now() });
            }
            return refused;
          }),
      };
    },
  };
}

const proxy = await startProxy({
  role: "node",
  nodeId: `node~127.0.0.1~${nodeName}~cluster.local`,
  bindMode: { nodeIp: "127.0.0.1", mode: "namespaces" },
  admin: undefined,
  xds: observed(connectAds({ address, tls: JSON.parse(readFileSync(tlsFile, "utf8")), log, clock, random })),
  clock,
  random,
  log,
});
const startedMs = clock.monotonicMs();
while (!proxy.isSettled()) await clock.sleep(50);
say({ type: "ready", tookMs: clock.monotonicMs() - startedMs, rssBytes: process.memoryUsage.rss() });
