// One informer per resource, shared by everyone in the process who needs it.

import type { Resource } from "../api/resources.ts";
import { createInformer, type InformerDeps } from "./informer.ts";
import type { IndexedInformer, Indexes } from "./types.ts";

export interface Informers {
  /** The informer of all objects of the resource, started on first use. Indexes come from the first caller's table. */
  of<T>(resource: Resource<T>): IndexedInformer<T>;
  stop(): void;
}

/** `indexes`: by plural, the indexes an informer of that resource gets. */
export function createInformers(deps: InformerDeps, indexes: Readonly<Record<string, Indexes<never>>> = {}): Informers {
  const started = new Map<string, IndexedInformer<unknown>>();
  return {
    of<T>(resource: Resource<T>): IndexedInformer<T> {
      const id = `${resource.plural}.${resource.group}`;
      let informer = started.get(id) as IndexedInformer<T> | undefined;
      if (informer === undefined) {
        informer = createInformer(deps, resource, {}, (indexes[resource.plural] ?? {}) as Indexes<T>);
        started.set(id, informer as IndexedInformer<unknown>);
      }
      return informer;
    },
    stop() {
      for (const informer of started.values()) informer.stop();
      started.clear();
    },
  };
}
