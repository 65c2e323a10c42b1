// Discovery, OpenAPI documents and tables over all served kinds.

import { expect, test } from "bun:test";
import { allKinds } from "../api/kinds/all.ts";
import { schemaNamed } from "../api/schema.ts";
import { discover } from "./discovery.ts";
import { openApiDocument } from "./openapi.ts";
import { toTable } from "./table.ts";

type Json = Record<string, unknown>;
const bodyOf = (path: string, accept = "application/json") =>
  discover(allKinds, path, accept, "10.0.0.1:6443")?.body as Json;
const aggregatedType = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

test("the core version and the groups are told, preferred version first", () => {
  expect(bodyOf("/api")).toMatchObject({ kind: "APIVersions", versions: ["v1"] });
  const { groups } = bodyOf("/apis") as { groups: { name: string; preferredVersion: object; versions: unknown[] }[] };
  expect(groups.map((group) => group.name)).toContain("apps");
  expect(groups.find((group) => group.name === "networking.istio.io")).toEqual({
    name: "networking.istio.io",
    versions: [
      { groupVersion: "networking.istio.io/v1", version: "v1" },
      { groupVersion: "networking.istio.io/v1beta1", version: "v1beta1" },
      { groupVersion: "networking.istio.io/v1alpha3", version: "v1alpha3" },
    ],
    preferredVersion: { groupVersion: "networking.istio.io/v1", version: "v1" },
  });
  expect(bodyOf("/apis/apps/")).toMatchObject({ kind: "APIGroup", name: "apps" });
});

test("resources carry verbs, short names, categories and subresources", () => {
  const { resources } = bodyOf("/apis/apps/v1") as { resources: { name: string }[] };
  expect(resources.find(({ name }) => name === "deployments")).toMatchObject({
    singularName: "deployment",
    namespaced: true,
    shortNames: ["deploy"],
    categories: ["all"],
    verbs: ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
  });
  expect(resources.find(({ name }) => name === "deployments/scale")).toMatchObject({
    kind: "Scale",
    group: "autoscaling",
    version: "v1",
  });
  expect((bodyOf("/api/v1") as { resources: { name: string }[] }).resources.map(({ name }) => name)).toContain(
    "pods/log",
  );
});

test("aggregated discovery answers a client that asks for it, with the content type it looks for", () => {
  const accept = `${aggregatedType},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json`;
  const answer = discover(allKinds, "/apis", accept, "");
  expect(answer?.contentType).toBe(aggregatedType);
  const { items } = answer!.body as {
    items: { metadata: { name?: string }; versions: { version: string; resources: Json[] }[] }[];
  };
  const apps = items.find(({ metadata }) => metadata.name === "apps");
  expect(apps?.versions[0]?.resources.find(({ resource }) => resource === "deployments")).toMatchObject({
    scope: "Namespaced",
    responseKind: { group: "apps", version: "v1", kind: "Deployment" },
    subresources: [{ subresource: "scale" }, { subresource: "status" }],
  });
  expect(items.some(({ metadata }) => metadata.name === undefined)).toBe(false);
  expect(discover(allKinds, "/api", accept, "")?.body).toMatchObject({ items: [{ versions: [{ version: "v1" }] }] });
  expect(discover(allKinds, "/apis", "application/json", "")?.contentType).toBe("application/json");
});

test.each(["/", "/apis/none", "/apis/apps/v2", "/api/v2", "/apis/apps/v1/deployments", "/other"])(
  "%s is no discovery path",
  (path) => {
    expect(bodyOf(path)).toBeUndefined();
  },
);

test("the OpenAPI index leads to one document per group and version", () => {
  const { paths } = JSON.parse(openApiDocument("/openapi/v3", undefined)!.text) as {
    paths: Record<string, { serverRelativeURL: string }>;
  };
  const expected = new Set(
    allKinds.flatMap((k) => k.servedVersions.map((v) => (k.group === "" ? `api/${v}` : `apis/${k.group}/${v}`))),
  );
  expect(new Set(Object.keys(paths))).toEqual(expected);
  for (const { serverRelativeURL } of Object.values(paths)) {
    const url = new URL(serverRelativeURL, "https://localhost");
    const document = openApiDocument(url.pathname, url.searchParams.get("hash") ?? undefined);
    expect(document?.immutable).toBe(true);
    expect(JSON.parse(document!.text)).toMatchObject({ openapi: "3.0.0" });
  }
  expect(openApiDocument("/openapi/v3/apis/none/v1", undefined)).toBeUndefined();
});

test("OpenAPI v2 is an empty document in protobuf", () => {
  const document = openApiDocument("/openapi/v2", undefined);
  expect(document?.contentType).toContain("protobuf");
  expect(document?.text).toStartWith("\n\x032.0");
});

interface Document {
  paths: Record<string, { patch?: { parameters: { name: string }[]; requestBody: { content: Json } } }>;
  components: {
    schemas: Record<string, { properties: Record<string, Json>; "x-kubernetes-group-version-kind"?: object[] }>;
  };
}
const documentAt = (path: string) => JSON.parse(openApiDocument(`/openapi/v3/${path}`, undefined)!.text) as Document;

test("documents tell kubectl about field validation, patch types, kinds and merge keys", () => {
  const apps = documentAt("apis/apps/v1");
  const patch = apps.paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]?.patch;
  expect(patch?.parameters.map(({ name }) => name)).toContain("fieldValidation");
  expect(Object.keys(patch!.requestBody.content)).toContain("application/strategic-merge-patch+json");
  expect(apps.components.schemas["io.k8s.api.apps.v1.Deployment"]?.["x-kubernetes-group-version-kind"]).toEqual([
    { group: "apps", version: "v1", kind: "Deployment" },
  ]);
  expect(apps.components.schemas["io.k8s.api.core.v1.PodSpec"]?.properties["containers"]).toMatchObject({
    "x-kubernetes-patch-merge-key": "name",
    "x-kubernetes-patch-strategy": "merge",
  });
  const istio = documentAt("apis/networking.istio.io/v1beta1");
  expect(
    istio.components.schemas["io.istio.networking.v1beta1.VirtualService"]?.["x-kubernetes-group-version-kind"],
  ).toEqual([{ group: "networking.istio.io", version: "v1beta1", kind: "VirtualService" }]);
  const content =
    istio.paths["/apis/networking.istio.io/v1beta1/namespaces/{namespace}/virtualservices/{name}"]?.patch?.requestBody
      .content;
  expect(Object.keys(content!)).not.toContain("application/strategic-merge-patch+json");
});

test("every reference in a document leads to a schema in it", () => {
  for (const path of ["api/v1", "apis/apps/v1", "apis/networking.istio.io/v1"]) {
    const document = documentAt(path);
    for (const [, name] of JSON.stringify(document).matchAll(/#\/components\/schemas\/([^"]+)/g))
      expect(document.components.schemas).toHaveProperty([name!]);
  }
});

test("a field called description keeps its schema, and quantities are told from texts", () => {
  expect(schemaNamed("io.k8s.apimachinery.pkg.api.resource.Quantity").format).toBe("quantity");
  expect(schemaNamed("io.k8s.api.core.v1.PodSpec").properties?.["containers"]?.items?.$ref).toEndWith(
    "io.k8s.api.core.v1.Container",
  );
});

test("integers say how large they may be", () => {
  const pod = schemaNamed("io.k8s.api.core.v1.PodSpec").properties!;
  expect(pod["terminationGracePeriodSeconds"]?.format).toBe("int64");
  expect(pod["priority"]?.format).toBe("int32");
  expect(schemaNamed("io.k8s.api.discovery.v1.EndpointPort").properties!["port"]?.format).toBe("int32");
});

test("a table carries cells and, as asked, objects", () => {
  const kind = allKinds.find(({ kind }) => kind === "ConfigMap")!;
  const object = {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "a", namespace: "b", uid: "u", resourceVersion: "1", creationTimestamp: "2026-01-01T00:00:00Z" },
    data: { x: "y" },
  };
  const nowMs = Date.UTC(2026, 0, 1, 1);
  const table = toTable(kind, [object], nowMs, "Metadata");
  expect(table.columnDefinitions.map(({ name }) => name)).toEqual(["Name", "Data", "Age"]);
  expect(table.rows).toEqual([
    {
      cells: ["a", "1", "60m"],
      object: { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata: object.metadata },
    },
  ]);
  expect(toTable(kind, [object], nowMs, "None").rows).toEqual([{ cells: ["a", "1", "60m"] }]);
  expect(toTable(kind, [object], nowMs, "Object").rows[0]?.object).toBe(object);
});
