// A mesh for the agreement: the real translator and real proxies with real certificates, in a network namespace of its own where all is loopback.

import type { TCPSocketListener } from "bun";
import { createAuthority } from "../../src/identity/authority.ts";
import { realClock } from "../../src/kernel/clock.ts";
import { silentLog } from "../../src/kernel/log.ts";
import { seededRandom } from "../../src/kernel/random.ts";
import { createTranslator } from "../../src/mesh/translator.ts";
import type { MeshObjects } from "../../src/mesh/types.ts";
import { startProxy } from "../../src/proxy/proxy.ts";
import type { RunningProxy } from "../../src/proxy/types.ts";
import { connectMemory } from "../../src/xds/memory.ts";
import type { SnapshotSource } from "../../src/xds/push.ts";

export const containerPort = 8080;
const nodeIp = "127.20.0.11";
const nodeId = `node~${nodeIp}~n1~cluster.local`;
const dayMs = 86_400_000;
const settleMaxMs = 3_000;

/** What an echo pod says it got. */
export interface Echo {
  pod: string;
  method: string;
  path: string;
  headers: [string, string][];
}

export interface AgreementMesh {
  /** Resolves when every proxy serves the new configuration. */
  apply(objects: MeshObjects): Promise<void>;
  close(): Promise<void>;
}

export async function startMesh(objects: MeshObjects): Promise<AgreementMesh> {
  const echoes = objects.pods
    .filter(({ spec }) => spec?.containers?.[0]?.image === "echo")
    .map(({ metadata, status }) => echoPod(`${metadata.namespace}/${metadata.name}`, status!.podIP!));
  const authority = await createAuthority({ commonName: "agreement", clock: realClock });
  const certificates = new Map<string, Awaited<ReturnType<typeof authority.issue>>>();
  const translator = createTranslator({
    config: {
      mode: "namespaces",
      clusterDomain: "cluster.local",
      trustDomain: "cluster.local",
      rootNamespace: "istio-system",
    },
    rootsPem: authority.certPem,
    certificateOf: (identity) => certificates.get(identity),
  });
  translator.update(objects);
  for (const { identity } of translator.model.workloads)
    if (!certificates.has(identity))
      certificates.set(
        identity,
        await authority.issue({ uris: [identity], lifetimeMs: dayMs, usages: ["server", "client"] }),
      );
  const watchers = new Set<() => void>();
  const source: SnapshotSource = {
    get: (id) => translator.snapshot(id),
    watch(_id, _metadata, onChange) {
      watchers.add(onChange);
      return () => watchers.delete(onChange);
    },
  };
  const start = (role: "node" | "router", id: string): Promise<RunningProxy> =>
    startProxy({
      role,
      nodeId: id,
      bindMode: { nodeIp, mode: "namespaces" },
      xds: connectMemory({ source, log: silentLog, clock: realClock }),
      admin: undefined,
      clock: realClock,
      random: seededRandom(1),
      log: silentLog,
    });
  const gateway = translator.model.workloads.find((workload) => workload.gateway)!;
  const proxies = [await start("node", nodeId), await start("router", gateway.nodeId)];
  const settled = async (): Promise<void> => {
    const deadlineMs = realClock.monotonicMs() + settleMaxMs;
    // Pushes go through several turns of the event loop before they are taken.
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
    while (!proxies.every((proxy) => proxy.isSettled())) {
      if (realClock.monotonicMs() > deadlineMs) throw new Error("the proxies do not settle");
      await realClock.sleep(1);
    }
  };
  await settled();
  return {
    async apply(next) {
      translator.update(next);
      for (const onChange of watchers) onChange();
      await settled();
    },
    async close() {
      await Promise.all(proxies.map((proxy) => proxy.close()));
      for (const echo of echoes) echo.stop(true);
    },
  };
}

/** Answers every request with what arrived, byte for byte as far as a head goes. Bodies are not sent to it. */
function echoPod(pod: string, hostname: string): TCPSocketListener<{ text: string }> {
  const options = {
    hostname,
    port: containerPort,
    // Beside the proxy's wildcard socket on the same port.
    reusePort: true,
    socket: {
      open(socket: { data: { text: string } }) {
        socket.data = { text: "" };
      },
      data(socket: { data: { text: string }; write(text: string): number }, chunk: Buffer) {
        socket.data.text += chunk.toString("latin1");
        for (;;) {
          const end = socket.data.text.indexOf("\r\n\r\n");
          if (end < 0) return;
          const head = socket.data.text.slice(0, end);
          socket.data.text = socket.data.text.slice(end + 4);
          socket.write(answerTo(pod, head));
        }
      },
    },
  };
  return Bun.listen(options as never);
}

function answerTo(pod: string, head: string): string {
  const [first = "", ...lines] = head.split("\r\n");
  const [method = "", path = ""] = first.split(" ");
  const headers = lines.map((line): [string, string] => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  });
  const body = JSON.stringify({ pod, method, path, headers } satisfies Echo);
  // A HEAD request's answer has no body: what it got stands in a field.
  return `HTTP/1.1 200 OK\r\nx-echo: ${Buffer.from(body).toString("base64")}\r\ncontent-length: ${body.length}\r\n\r\n${method === "HEAD" ? "" : body}`;
}
