// Where a route comes from, in its metadata: Istio's reference to the object, and beside it the field. Pure.

import { create } from "@bufbuild/protobuf";
import { type Metadata, MetadataSchema } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import type { RuleSource } from "./types.ts";

/** Under this name stands the field; Istio's own reference is `istio.config`. */
const fieldMetadata = "meshbed.source";

/** The API groups of kinds that make routes; in a reference a kind is written with dashes. */
const groups: Readonly<Record<string, string>> = {
  "virtual-service": "networking.istio.io/v1",
  "http-route": "gateway.networking.k8s.io/v1",
  "grpc-route": "gateway.networking.k8s.io/v1",
};

/** Istio: the form of `filter_metadata.istio.config`. */
export function ruleSource(
  kind: string,
  { name, namespace }: { name: string; namespace?: string },
  field: string,
): RuleSource {
  return { config: `/apis/${groups[kind]}/namespaces/${namespace ?? "default"}/${kind}/${name}`, field };
}

export const sourceMetadata = ({ config, field, root }: RuleSource): Metadata =>
  create(MetadataSchema, {
    filterMetadata: { istio: { config }, [fieldMetadata]: { field, ...(root !== undefined && { root }) } },
  });

/** What `sourceMetadata` wrote; undefined for a route that no rule has made. */
export function sourceOf(metadata: Metadata | undefined): RuleSource | undefined {
  const config = metadata?.filterMetadata["istio"]?.["config"];
  const { field, root } = metadata?.filterMetadata[fieldMetadata] ?? {};
  if (typeof config !== "string" || typeof field !== "string") return undefined;
  return { config, field, ...(typeof root === "string" && { root }) };
}
