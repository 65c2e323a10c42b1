// The ConfigMaps and Secrets that pods of this node refer to: one watch each, shared, kept only as long as a pod needs it.

import { configMaps, secrets } from "../api/resources.ts";
import type { ConfigMap, Pod, Secret } from "../api/types.ts";
import { createInformer, type InformerDeps } from "../client/informer.ts";
import type { Informer } from "../client/types.ts";
import type { ConfigSource } from "./env.ts";

interface Watched {
  informer: Informer<ConfigMap> | Informer<Secret>;
  /** Pod UID → what to call when the object changes. */
  users: Map<string, () => void>;
}

export interface ConfigLease extends ConfigSource {
  /** Resolves when every object was looked up once. */
  readonly synced: Promise<void>;
  release(): void;
}

/** Names of everything a pod's env and volumes read, as "configmaps/name" and "secrets/name". */
export function configReferences(pod: Pod): Set<string> {
  const found = new Set<string>();
  const add = (kind: "configmaps" | "secrets", name: string | undefined) => {
    if (name !== undefined && name !== "") found.add(`${kind}/${name}`);
  };
  for (const container of [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? [])]) {
    for (const { configMapRef, secretRef } of container.envFrom ?? []) {
      add("configmaps", configMapRef?.name);
      add("secrets", secretRef?.name);
    }
    for (const { valueFrom } of container.env ?? []) {
      add("configmaps", valueFrom?.configMapKeyRef?.name);
      add("secrets", valueFrom?.secretKeyRef?.name);
    }
  }
  for (const { configMap, secret, projected } of pod.spec?.volumes ?? []) {
    add("configmaps", configMap?.name);
    add("secrets", secret?.secretName);
    for (const projection of projected?.sources ?? []) {
      add("configmaps", projection.configMap?.name);
      add("secrets", projection.secret?.name);
    }
  }
  return found;
}

export class ConfigObjects {
  readonly #deps: InformerDeps;
  readonly #watched = new Map<string, Watched>();

  constructor(deps: InformerDeps) {
    this.#deps = deps;
  }

  /** Watches what the pod refers to and calls `onChange` whenever any of it changes. */
  lease(pod: Pod, onChange: () => void): ConfigLease {
    const namespace = pod.metadata.namespace ?? "default";
    const user = pod.metadata.uid;
    const references = [...configReferences(pod)].map((reference) => `${namespace}/${reference}`);
    const synced = Promise.all(references.map((id) => this.#acquire(id, user, onChange).informer.synced));
    const find = (kind: string, name: string) =>
      this.#watched.get(`${namespace}/${kind}/${name}`)?.informer.get(`${namespace}/${name}`);
    return {
      configMap: (name) => find("configmaps", name) as ConfigMap | undefined,
      secret: (name) => find("secrets", name) as Secret | undefined,
      synced: synced.then(() => {}),
      release: () => {
        for (const id of references) this.#release(id, user);
      },
    };
  }

  #acquire(id: string, user: string, onChange: () => void): Watched {
    let watched = this.#watched.get(id);
    if (watched === undefined) {
      const [namespace, kind, name] = id.split("/");
      const options = { namespace: namespace!, fieldSelector: `metadata.name=${name}` };
      const users = new Map<string, () => void>();
      const informer =
        kind === "secrets"
          ? createInformer(this.#deps, secrets, options)
          : createInformer(this.#deps, configMaps, options);
      informer.onChange(() => {
        for (const notify of users.values()) notify();
      });
      watched = { informer, users };
      this.#watched.set(id, watched);
    }
    watched.users.set(user, onChange);
    return watched;
  }

  #release(id: string, user: string): void {
    const watched = this.#watched.get(id);
    if (watched === undefined) return;
    watched.users.delete(user);
    if (watched.users.size > 0) return;
    watched.informer.stop();
    this.#watched.delete(id);
  }

  stop(): void {
    for (const { informer } of this.#watched.values()) informer.stop();
    this.#watched.clear();
  }
}
