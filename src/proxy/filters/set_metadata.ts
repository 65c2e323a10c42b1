// Static dynamic metadata (envoy.filters.http.set_metadata), for later filters, route matches and logs.

import type { JsonObject } from "@bufbuild/protobuf";
import { type Config, ConfigSchema } from "#gen/xds/envoy/extensions/filters/http/set_metadata/v3/set_metadata_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import type { FilterFactory, FilterRequest } from "../filter.ts";

interface Entry {
  namespace: string;
  value: JsonObject;
  /** Merged into what is there; else what is there stays as it is. */
  merges: boolean;
}

function compile({ metadata, metadataNamespace, value: oldValue }: Config): Entry[] {
  const entries = metadata.map(({ metadataNamespace: namespace, value = {}, typedValue, allowOverwrite }): Entry => {
    if (typedValue)
      throw new MeshbedError("METADATA_UNSUPPORTED", `set_metadata ${namespace}: typed_value is not supported`);
    return { namespace, value, merges: allowOverwrite };
  });
  // The deprecated form always merges.
  return metadataNamespace === ""
    ? entries
    : [...entries, { namespace: metadataNamespace, value: oldValue ?? {}, merges: true }];
}

function apply(entries: readonly Entry[], exchange: FilterRequest): void {
  for (const { namespace, value, merges } of entries) {
    const before = exchange.metadata(namespace);
    if (before === undefined) exchange.setMetadata(namespace, value);
    else if (merges) exchange.setMetadata(namespace, merged(before, value));
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Envoy's rule: objects by key, lists one behind the other, anything else is replaced. */
export function merged(before: unknown, after: unknown): unknown {
  if (Array.isArray(before) && Array.isArray(after)) return [...before, ...after];
  if (!isObject(before) || !isObject(after)) return after;
  const out: Record<string, unknown> = { ...before };
  for (const [key, value] of Object.entries(after)) out[key] = key in before ? merged(before[key], value) : value;
  return out;
}

export const setMetadataFactory: FilterFactory<typeof ConfigSchema, typeof ConfigSchema> = {
  config: ConfigSchema,
  perRoute: ConfigSchema,
  create(name, config) {
    const own = compile(config);
    return {
      name,
      onRequest(exchange) {
        apply((exchange.settings(name) as Entry[] | undefined) ?? own, exchange);
        return "continue";
      },
    };
  },
  settings: compile,
};
