// What every cluster starts with: the system namespaces and the Service of the API server itself.

import type { KubeObject } from "../api/object.ts";
import { createObject } from "./create.ts";
import { recordKey } from "./records.ts";
import type { CoreDeps } from "./types.ts";

const systemNamespaces = ["default", "kube-system", "kube-public", "kube-node-lease"];
const apiServiceIp = "10.96.0.1";

/** Creates what is absent; `port` is where the API server listens. Kinds that are not served are left out. */
export async function bootstrap(deps: CoreDeps, port: number): Promise<void> {
  await Promise.all(
    systemNamespaces.map((name) => ensure(deps, { apiVersion: "v1", kind: "Namespace", metadata: { name } })),
  );
  await ensure(deps, {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "kubernetes", namespace: "default", labels: { component: "apiserver", provider: "kubernetes" } },
    spec: {
      type: "ClusterIP",
      clusterIP: apiServiceIp,
      ports: [{ name: "https", protocol: "TCP", port: 443, targetPort: port }],
    },
  });
}

interface Draft {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
  spec?: object;
}

async function ensure(deps: CoreDeps, draft: Draft): Promise<void> {
  const kind = deps.kinds.byKind("", draft.kind);
  if (kind === undefined) return;
  const { name, namespace } = draft.metadata;
  if (deps.store.get(recordKey(kind, namespace, name)) !== undefined) return;
  await createObject(deps, kind, draft as unknown as KubeObject, { dryRun: false });
}
