// The typed API client: turns method calls into requests on a transport and refusals into ApiError.

import type { Draft, ObjectMeta, WatchEvent } from "../api/object.ts";
import { pathOf, type Resource } from "../api/resources.ts";
import type { ApiRequest, ApiTransport } from "../api/rest.ts";
import { ApiError, type Client, type ListOptions, type ListResult, type PatchType } from "./types.ts";

const contentTypes: Record<PatchType, string> = {
  merge: "application/merge-patch+json",
  json: "application/json-patch+json",
  strategic: "application/strategic-merge-patch+json",
  apply: "application/apply-patch+yaml",
};

/** Name the server records for our writes (metadata.managedFields). */
const fieldManager = "meshbed";

function queryOf(options: ListOptions): Record<string, string> {
  const query: Record<string, string> = {};
  if (options.labelSelector !== undefined) query["labelSelector"] = options.labelSelector;
  if (options.fieldSelector !== undefined) query["fieldSelector"] = options.fieldSelector;
  if (options.limit !== undefined) query["limit"] = String(options.limit);
  if (options.continue !== undefined) query["continue"] = options.continue;
  return query;
}

interface ListBody {
  metadata?: { resourceVersion?: string; continue?: string };
  items?: Record<string, unknown>[];
}

/** A client over `transport`; the result of every call is immutable. */
export function createClient(transport: ApiTransport): Client {
  const send = async (request: ApiRequest): Promise<unknown> => {
    const { status, body } = await transport.request(request);
    if (status < 200 || status > 299) throw new ApiError(status, body);
    return body;
  };
  return {
    get: async <T>(resource: Resource<T>, namespace: string | undefined, name: string) =>
      (await send({ method: "GET", path: pathOf(resource as unknown as Resource, namespace, name) })) as T,

    async list<T>(resource: Resource<T>, options: ListOptions = {}): Promise<ListResult<T>> {
      const path = pathOf(resource as unknown as Resource, options.namespace);
      const body = (await send({ method: "GET", path, query: queryOf(options) })) as ListBody;
      return {
        items: (body.items ?? []).map((item) => typed(resource as unknown as Resource, item) as T),
        resourceVersion: body.metadata?.resourceVersion ?? "0",
        ...(body.metadata?.continue ? { continue: body.metadata.continue } : {}),
      };
    },

    watch<T>(resource: Resource<T>, options: ListOptions & { resourceVersion: string; signal: AbortSignal }) {
      const query = { ...queryOf(options), watch: "true", allowWatchBookmarks: "true" };
      const path = pathOf(resource as unknown as Resource, options.namespace);
      const request: ApiRequest = {
        method: "GET",
        path,
        query: { ...query, resourceVersion: options.resourceVersion },
      };
      return events(transport, request, options.signal) as AsyncIterable<WatchEvent<T>>;
    },

    async create<T extends { metadata: object }>(resource: Resource<T>, object: Draft<T>): Promise<T> {
      const path = pathOf(resource as unknown as Resource, object.metadata.namespace);
      return (await send({ method: "POST", path, query: { fieldManager }, body: object })) as T;
    },

    createSubresource: (resource, namespace, name, subresource, body) =>
      send({ method: "POST", path: pathOf(resource, namespace, name, subresource), query: { fieldManager }, body }),

    async update<T>(resource: Resource<T>, object: T, subresource?: string): Promise<T> {
      const { namespace, name } = (object as { metadata: ObjectMeta }).metadata;
      const path = pathOf(resource as unknown as Resource, namespace, name, subresource);
      return (await send({ method: "PUT", path, query: { fieldManager }, body: object })) as T;
    },

    async patch<T>(
      resource: Resource<T>,
      namespace: string | undefined,
      name: string,
      patch: unknown,
      options: { type?: PatchType; subresource?: string } = {},
    ): Promise<T> {
      const path = pathOf(resource as unknown as Resource, namespace, name, options.subresource);
      const contentType = contentTypes[options.type ?? "merge"];
      const query: Record<string, string> =
        options.type === "apply" ? { fieldManager, force: "true" } : { fieldManager };
      return (await send({ method: "PATCH", path, query, contentType, body: patch })) as T;
    },

    async delete(resource, namespace, name, options = {}) {
      const { uid, resourceVersion, gracePeriodSeconds, propagationPolicy } = options;
      const body = {
        apiVersion: "v1",
        kind: "DeleteOptions",
        ...(uid === undefined && resourceVersion === undefined
          ? {}
          : { preconditions: { ...(uid && { uid }), ...(resourceVersion && { resourceVersion }) } }),
        ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
        ...(propagationPolicy === undefined ? {} : { propagationPolicy }),
      };
      await send({ method: "DELETE", path: pathOf(resource as unknown as Resource, namespace, name), body });
    },

    discover: () => discover(send),
  };
}

/** A transport inside the process throws the server's own refusal, which carries the Status. */
async function* events(transport: ApiTransport, request: ApiRequest, signal: AbortSignal): AsyncIterable<WatchEvent> {
  try {
    yield* transport.watch(request, signal);
  } catch (error) {
    const { status } = error as { status?: unknown };
    if (error instanceof ApiError || typeof status !== "object" || status === null) throw error;
    throw new ApiError((status as { code?: number }).code ?? 500, status);
  }
}

/** Kubernetes leaves apiVersion and kind out of list items; ours always carry them. */
function typed(resource: Resource, item: Record<string, unknown>): unknown {
  if (item["kind"] !== undefined && item["apiVersion"] !== undefined) return item;
  const apiVersion = resource.group === "" ? resource.version : `${resource.group}/${resource.version}`;
  return { ...item, apiVersion, kind: resource.kind };
}

interface ApiResourceList {
  resources?: { name: string; kind: string; namespaced: boolean; verbs?: string[] }[];
}

async function discover(send: (request: ApiRequest) => Promise<unknown>): Promise<Resource[]> {
  const groups = (await send({ method: "GET", path: "/apis" })) as {
    groups?: { name: string; preferredVersion?: { version: string }; versions?: { version: string }[] }[];
  };
  const versions = [{ group: "", version: "v1", path: "/api/v1" }];
  for (const { name, preferredVersion, versions: served } of groups.groups ?? []) {
    const version = preferredVersion?.version ?? served?.[0]?.version;
    if (version !== undefined) versions.push({ group: name, version, path: `/apis/${name}/${version}` });
  }
  const found: Resource[] = [];
  for (const { group, version, path } of versions) {
    const list = (await send({ method: "GET", path })) as ApiResourceList;
    for (const { name, kind, namespaced, verbs } of list.resources ?? [])
      if (!name.includes("/") && verbs?.includes("watch") && verbs.includes("list"))
        found.push({ group, version, kind, plural: name, namespaced });
  }
  return found;
}
