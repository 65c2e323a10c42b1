// A route's rate_limits: which descriptors (lists of key and value) a request falls under. The limits on them are a filter's.

import type { RateLimit_Action as Action, RateLimit } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { RateLimit_Action_MetaData_Source as Source } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import type { MetadataKey } from "#gen/xds/envoy/type/metadata/v3/metadata_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import type { RequestView } from "../http/request.ts";
import { compileHeader, compileQuery, type RequestTest } from "./match.ts";

export interface DescriptorEntry {
  key: string;
  value: string;
}

/** What actions look at. */
export interface RateLimitSubject {
  readonly request: RequestView;
  readonly remoteAddress: string;
  metadata(namespace: string): unknown;
}

/** "skip" leaves the entry out; undefined leaves the whole descriptor out. */
type EntryMaker = (subject: RateLimitSubject) => DescriptorEntry | "skip" | undefined;

export interface RateLimitRule {
  stage: number;
  entries: readonly EntryMaker[];
}

/** `clusterName`: where the route leads, if that is one cluster. Rules with a disable_key are off, as in Envoy's local filter. */
export function compileRateLimits(messages: readonly RateLimit[], clusterName: string | undefined): RateLimitRule[] {
  return messages
    .filter(({ disableKey }) => disableKey === "")
    .map(({ stage, actions }) => ({
      stage: stage ?? 0,
      entries: actions.map((action) => compileAction(action, clusterName)),
    }));
}

/** Undefined when an action finds nothing to say. */
export function descriptorOf(rule: RateLimitRule, subject: RateLimitSubject): DescriptorEntry[] | undefined {
  const descriptor: DescriptorEntry[] = [];
  for (const make of rule.entries) {
    const entry = make(subject);
    if (entry === undefined) return undefined;
    if (entry !== "skip") descriptor.push(entry);
  }
  return descriptor;
}

function compileAction({ actionSpecifier: action }: Action, clusterName: string | undefined): EntryMaker {
  switch (action.case) {
    case "genericKey": {
      const entry = { key: action.value.descriptorKey || "generic_key", value: action.value.descriptorValue };
      return () => entry;
    }
    case "destinationCluster": {
      if (clusterName === undefined) break;
      const entry = { key: "destination_cluster", value: clusterName };
      return () => entry;
    }
    case "remoteAddress":
      return ({ remoteAddress: value }) => ({ key: "remote_address", value });
    case "requestHeaders": {
      const { descriptorKey: key, headerName, skipIfAbsent } = action.value;
      const name = headerName.toLowerCase();
      return ({ request }) => {
        const value = request.header(name);
        return value === undefined ? (skipIfAbsent ? "skip" : undefined) : { key, value };
      };
    }
    case "headerValueMatch": {
      const { descriptorKey, descriptorValue, headers, expectMatch } = action.value;
      return matching(headers.map(compileHeader), descriptorKey || "header_match", descriptorValue, expectMatch);
    }
    case "queryParameterValueMatch": {
      const { descriptorKey, descriptorValue, queryParameters, expectMatch } = action.value;
      return matching(queryParameters.map(compileQuery), descriptorKey || "query_match", descriptorValue, expectMatch);
    }
    case "dynamicMetadata":
      return fromMetadata(action.value.metadataKey, action.value.descriptorKey, action.value.defaultValue, false);
    case "metadata": {
      const { metadataKey, descriptorKey, defaultValue, skipIfAbsent, source } = action.value;
      if (source !== Source.DYNAMIC) break;
      return fromMetadata(metadataKey, descriptorKey, defaultValue, skipIfAbsent);
    }
  }
  throw new MeshbedError(
    "RATE_LIMIT_UNSUPPORTED",
    `rate limit action "${action.case ?? "empty"}" is not supported here`,
  );
}

function matching(tests: readonly RequestTest[], key: string, value: string, expected = true): EntryMaker {
  const entry = { key, value };
  return ({ request }) => (tests.every((test) => test(request)) === expected ? entry : undefined);
}

function fromMetadata(path: MetadataKey | undefined, key: string, absent: string, skips: boolean): EntryMaker {
  const keys = path?.path.map(({ segment }) => segment.value ?? "") ?? [];
  return (subject) => {
    let at = subject.metadata(path?.key ?? "");
    for (const name of keys)
      at =
        typeof at === "object" && at !== null && Object.hasOwn(at, name)
          ? (at as Record<string, unknown>)[name]
          : undefined;
    const value = typeof at === "string" && at !== "" ? at : absent;
    return value === "" ? (skips ? "skip" : undefined) : { key, value };
  };
}
