// The small filters through a running proxy: header mutation, static metadata, health checks, and those of Istio's that need no work here.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { create, type JsonObject } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import {
  HeaderMutationPerRouteSchema,
  HeaderMutationSchema,
} from "#gen/xds/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.js";
import { HealthCheckSchema } from "#gen/xds/envoy/extensions/filters/http/health_check/v3/health_check_pb.js";
import { ConfigSchema } from "#gen/xds/envoy/extensions/filters/http/set_metadata/v3/set_metadata_pb.js";
import { pack, prefix, routes, toCluster } from "../fixture.ts";
import { FilterFixture, httpFilter } from "./fixture.ts";
import { merged } from "./set_metadata.ts";

const fixture = new FilterFixture();
beforeAll(() => fixture.start());
afterAll(() => fixture.stop());

const set = (key: string, value: string, appendAction = 2) =>
  ({ action: { case: "append", value: { header: { key, value }, appendAction } } }) as const;
const drop = (value: string) => ({ action: { case: "remove", value } }) as const;

test("mutations happen in their order; the chain's before the route's, and the answer's too", async () => {
  const perRoute = (value: string) => ({
    mutation: pack(HeaderMutationPerRouteSchema, { mutations: { requestMutations: [set("x-level", value)] } }),
  });
  const serve = async (mostSpecificHeaderMutationsWins: boolean): Promise<void> => {
    const filter = httpFilter("mutation", HeaderMutationSchema, {
      mutations: {
        requestMutations: [drop("x-a"), set("x-a", "new"), set("x-level", "chain"), set("x-host", "%REQ(:AUTHORITY)%")],
        responseMutations: [set("x-answer", "1"), set("x-answer", "2", 0), drop("server")],
      },
      mostSpecificHeaderMutationsWins,
    });
    const list = [{ match: prefix("/"), action: toCluster("a"), typedPerFilterConfig: perRoute("route") }];
    const configuration = routes("main", list);
    configuration.virtualHosts[0]!.typedPerFilterConfig = perRoute("host");
    await fixture.serve({ httpFilters: [filter] }, list, { routes: [configuration] });
  };
  await serve(true);
  const answer = await fixture.fetch("/", { headers: { "x-a": "old", host: "shop.test" } });
  const { headers } = (await answer.json()) as { headers: Record<string, string> };
  expect([headers["x-a"], headers["x-level"], headers["x-host"]]).toEqual(["new", "route", "shop.test"]);
  expect([answer.headers.get("x-answer"), answer.headers.get("server")]).toEqual(["1, 2", null]);
  await serve(false);
  expect((await fixture.seen("/")).headers["x-level"]).toBe("host");
});

test("static metadata is there for what comes after, merged only where it may be", async () => {
  const metadata: { metadataNamespace: string; value: JsonObject; allowOverwrite?: boolean }[] = [
    { metadataNamespace: "n", value: { list: [1], deep: { a: "x" } } },
    { metadataNamespace: "n", value: { list: [2], deep: { b: "y" } }, allowOverwrite: true },
    { metadataNamespace: "n", value: { deep: "lost" } },
  ];
  await fixture.serve(
    {
      httpFilters: [
        httpFilter("set", ConfigSchema, { metadata }),
        httpFilter("mutation", HeaderMutationSchema, {
          mutations: {
            requestMutations: [
              set("x-meta", "%DYNAMIC_METADATA(n:deep:b)%"),
              set("x-list", "%DYNAMIC_METADATA(n:list)%"),
            ],
          },
        }),
      ],
    },
    [{ match: prefix("/"), action: toCluster("a") }],
  );
  const { headers } = await fixture.seen("/");
  expect([headers["x-meta"], headers["x-list"]]).toEqual(["y", "[1,2]"]);
  expect(merged({ a: 1, b: [1] }, { a: { c: 2 }, b: [2] })).toEqual({ a: { c: 2 }, b: [1, 2] });
});

test("health checks are answered here, and Istio's built-in filters are taken as they come", async () => {
  const typed = (typeUrl: string) =>
    ({ case: "typedConfig", value: create(AnySchema, { typeUrl, value: new Uint8Array() }) }) as const;
  await fixture.serve(
    {
      httpFilters: [
        {
          name: "istio.alpn",
          configType: typed("type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"),
        },
        {
          name: "envoy.filters.http.grpc_stats",
          configType: typed("type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"),
        },
        { name: "waypoint", configType: typed("type.googleapis.com/io.istio.http.peer_metadata.Config") },
        httpFilter("health", HealthCheckSchema, {
          passThroughMode: false,
          headers: [
            {
              name: ":path",
              headerMatchSpecifier: {
                case: "stringMatch",
                value: { matchPattern: { case: "exact", value: "/healthz" } },
              },
            },
          ],
        }),
      ],
    },
    [{ match: prefix("/"), action: toCluster("a") }],
  );
  expect([(await fixture.fetch("/healthz")).status, fixture.backend.requests.length]).toEqual([200, 0]);
  expect((await fixture.fetch("/other")).status).toBe(200);
  expect(fixture.backend.requests.length).toBe(1);
});
