// For tests with the real kubectl: an API server on loopback, and a folder with a kubeconfig for its administrator.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allKinds } from "../api/kinds/all.ts";
import { createAuthority } from "../identity/authority.ts";
import { realClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { systemRandom } from "../kernel/random.ts";
import { createMemoryStore } from "../store/memory.ts";
import type { Store } from "../store/types.ts";
import { startApiServer } from "./server.ts";

export interface KubectlFixture {
  store: Store;
  /** Holds "kubeconfig"; removed by `close`. */
  folder: string;
  kubeconfig: string;
  close(): Promise<void>;
}

export async function startForKubectl(): Promise<KubectlFixture> {
  const folder = mkdtempSync(join(tmpdir(), "meshbed-kubectl-"));
  const ca = await createAuthority({ commonName: "cluster", clock: realClock });
  const lifetimeMs = 3_600_000;
  const serving = await ca.issue({ commonName: "api", ipAddresses: ["127.0.0.1"], lifetimeMs, usages: ["server"] });
  const person = { commonName: "admin", organizations: ["system:masters"], lifetimeMs, usages: ["client" as const] };
  const admin = await ca.issue(person);
  const store = createMemoryStore();
  const server = await startApiServer({
    store,
    kinds: allKinds,
    host: "127.0.0.1",
    port: 0,
    tls: {
      ...serving,
      clientCaPem: ca.certPem,
      kubeletClientCertPem: admin.certPem,
      kubeletClientKeyPem: admin.keyPem,
    },
    clock: realClock,
    random: systemRandom,
    log: silentLog,
  });
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  const cluster = { server: `https://127.0.0.1:${server.port}`, "certificate-authority-data": base64(ca.certPem) };
  const user = { "client-certificate-data": base64(admin.certPem), "client-key-data": base64(admin.keyPem) };
  const config = {
    apiVersion: "v1",
    kind: "Config",
    "current-context": "test",
    clusters: [{ name: "test", cluster }],
    users: [{ name: "test", user }],
    contexts: [{ name: "test", context: { cluster: "test", user: "test" } }],
  };
  const kubeconfig = join(folder, "kubeconfig");
  writeFileSync(kubeconfig, JSON.stringify(config));
  return {
    store,
    folder,
    kubeconfig,
    async close() {
      await server.close();
      await store.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
