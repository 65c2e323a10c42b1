// What the API offers, as clients ask before anything else: /api, /apis and their groups, plain and aggregated (apidiscovery.k8s.io/v2).

import type { KindDefinition } from "../api/kind.ts";
import { apiVersionFor } from "./records.ts";

const objectVerbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const partVerbs = ["get", "patch", "update"];

/** A part of a kind under its own path; `kind` is what travels there. */
interface Subresource {
  name: string;
  kind: string;
  group?: string;
  version?: string;
  verbs: readonly string[];
}

/** Subresources that exist beyond status and scale, by group and plural. */
const special: Record<string, readonly Subresource[]> = {
  "/namespaces": [{ name: "finalize", kind: "Namespace", verbs: ["update"] }],
  "/pods": [
    { name: "binding", kind: "Binding", verbs: ["create"] },
    { name: "eviction", kind: "Eviction", group: "policy", version: "v1", verbs: ["create"] },
    { name: "log", kind: "Pod", verbs: ["get"] },
  ],
};

function subresourcesOf(kind: KindDefinition): Subresource[] {
  const list = [...(special[`${kind.group}/${kind.plural}`] ?? [])];
  if (kind.hasStatus) list.push({ name: "status", kind: kind.kind, verbs: partVerbs });
  if (kind.scale !== undefined)
    list.push({ name: "scale", kind: "Scale", group: "autoscaling", version: "v1", verbs: partVerbs });
  return list.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Versions in the order they are preferred, per group; the core group is "". */
function groupsOf(kinds: readonly KindDefinition[]): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const kind of kinds) {
    const versions = groups.get(kind.group) ?? [];
    for (const version of kind.servedVersions) if (!versions.includes(version)) versions.push(version);
    groups.set(kind.group, versions);
  }
  return groups;
}

const groupVersion = (group: string, version: string) => ({
  groupVersion: apiVersionFor({ group }, version),
  version,
});

function apiGroup(group: string, versions: readonly string[]) {
  return {
    name: group,
    versions: versions.map((version) => groupVersion(group, version)),
    preferredVersion: groupVersion(group, versions[0]!),
  };
}

/** metav1.APIResourceList of one group and version, or undefined when nothing is served there. */
function resourceList(kinds: readonly KindDefinition[], group: string, version: string): object | undefined {
  const served = kinds.filter((kind) => kind.group === group && kind.servedVersions.includes(version));
  if (served.length === 0) return undefined;
  const resources = served.flatMap((kind) => [
    {
      name: kind.plural,
      singularName: kind.singular,
      namespaced: kind.namespaced,
      kind: kind.kind,
      verbs: objectVerbs,
      ...(kind.shortNames.length > 0 && { shortNames: kind.shortNames }),
      ...(kind.categories.length > 0 && { categories: kind.categories }),
    },
    ...subresourcesOf(kind).map((part) => ({
      name: `${kind.plural}/${part.name}`,
      singularName: "",
      namespaced: kind.namespaced,
      ...(part.group !== undefined && { group: part.group, version: part.version }),
      kind: part.kind,
      verbs: part.verbs,
    })),
  ]);
  return { kind: "APIResourceList", apiVersion: "v1", groupVersion: apiVersionFor({ group }, version), resources };
}

function aggregatedResource(kind: KindDefinition, version: string): object {
  return {
    resource: kind.plural,
    responseKind: { group: kind.group, version, kind: kind.kind },
    scope: kind.namespaced ? "Namespaced" : "Cluster",
    singularResource: kind.singular,
    verbs: objectVerbs,
    ...(kind.shortNames.length > 0 && { shortNames: kind.shortNames }),
    ...(kind.categories.length > 0 && { categories: kind.categories }),
    subresources: subresourcesOf(kind).map((part) => ({
      subresource: part.name,
      responseKind: { group: part.group ?? kind.group, version: part.version ?? version, kind: part.kind },
      verbs: part.verbs,
    })),
  };
}

function aggregated(
  kinds: readonly KindDefinition[],
  isWanted: (group: string) => boolean,
  apiVersion: string,
): object {
  const items = [...groupsOf(kinds)]
    .filter(([group]) => isWanted(group))
    .map(([group, versions]) => ({
      metadata: { ...(group !== "" && { name: group }), creationTimestamp: null },
      versions: versions.map((version) => ({
        version,
        resources: kinds
          .filter((kind) => kind.group === group && kind.servedVersions.includes(version))
          .map((kind) => aggregatedResource(kind, version)),
        freshness: "Current",
      })),
    }));
  return { kind: "APIGroupDiscoveryList", apiVersion, metadata: {}, items };
}

/** The apidiscovery version that the Accept header prefers, or undefined for plain discovery. */
function aggregatedVersion(accept: string): string | undefined {
  for (const range of accept.split(",")) {
    const parameters = range.split(";").map((part) => part.trim());
    if (parameters.includes("as=APIGroupDiscoveryList") && parameters.includes("g=apidiscovery.k8s.io"))
      for (const version of ["v2", "v2beta1"]) if (parameters.includes(`v=${version}`)) return version;
    if (parameters[0] === "application/json" && parameters.length === 1) return undefined;
  }
  return undefined;
}

export interface DiscoveryAnswer {
  body: object;
  /** Exactly what the client has to see to tell an aggregated answer from a plain one. */
  contentType: string;
}

/**
 * The answer to a discovery path (`/api`, `/apis`, `/api/v1`, `/apis/<group>`, `/apis/<group>/<version>`; a trailing slash is
 * fine), or undefined when the path is none or nothing is served there. `serverAddress` is host:port as the client reached it.
 */
export function discover(
  kinds: readonly KindDefinition[],
  path: string,
  accept: string,
  serverAddress: string,
): DiscoveryAnswer | undefined {
  const parts = path.split("/").filter((part) => part !== "");
  const plain = (body: object | undefined): DiscoveryAnswer | undefined =>
    body === undefined ? undefined : { body, contentType: "application/json" };
  const isCore = parts[0] === "api";
  if ((!isCore && parts[0] !== "apis") || parts.length > (isCore ? 2 : 3)) return undefined;
  if (parts.length === 1) {
    const version = aggregatedVersion(accept);
    if (version !== undefined)
      return {
        body: aggregated(kinds, (group) => (group === "") === isCore, `apidiscovery.k8s.io/${version}`),
        contentType: `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`,
      };
    return plain(isCore ? coreVersions(serverAddress) : groupList(kinds));
  }
  if (isCore) return plain(resourceList(kinds, "", parts[1]!));
  const group = parts[1]!;
  if (parts.length === 3) return plain(resourceList(kinds, group, parts[2]!));
  const versions = group === "" ? undefined : groupsOf(kinds).get(group);
  return plain(versions && { kind: "APIGroup", apiVersion: "v1", ...apiGroup(group, versions) });
}

const coreVersions = (serverAddress: string) => ({
  kind: "APIVersions",
  versions: ["v1"],
  serverAddressByClientCIDRs: [{ clientCIDR: "0.0.0.0/0", serverAddress }],
});

const groupList = (kinds: readonly KindDefinition[]) => ({
  kind: "APIGroupList",
  apiVersion: "v1",
  groups: [...groupsOf(kinds)].filter(([group]) => group !== "").map(([group, versions]) => apiGroup(group, versions)),
});
