// What of a request is hashed: each kind of policy, their order, and cookies that are made.
import { describe, expect, test } from "bun:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { RouteAction_HashPolicySchema } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { seededRandom } from "../../kernel/random.ts";
import { hashOf } from "../balancing/consistent.ts";
import type { ConnectionInfo } from "../chain.ts";
import { requestOf } from "../request_fixture.ts";
import { compileHashPolicy } from "./hash_policy.ts";

type Init = MessageInitShape<typeof RouteAction_HashPolicySchema>;
const compile = (...policies: Init[]) =>
  compileHashPolicy(policies.map((init) => create(RouteAction_HashPolicySchema, init)));

type Fields = Parameters<typeof requestOf>[1];

function hashFor(policies: Init[], fields: Fields = {}, path = "/") {
  const request = requestOf(path, fields);
  const added: string[] = [];
  const client = { remoteAddress: "10.1.2.3" } as ConnectionInfo;
  const context = { request, client, addResponseHeader: (line: string) => void added.push(line) };
  return { hash: compile(...policies)?.(context, seededRandom(1)), added };
}

const header = (headerName: string, terminal = false): Init => ({
  policySpecifier: { case: "header", value: { headerName } },
  terminal,
});
const cookie = (seconds: number | undefined, more = {}): Init => ({
  policySpecifier: {
    case: "cookie",
    value: { name: "id", ...(seconds !== undefined && { ttl: { seconds: BigInt(seconds) } }), ...more },
  },
});
const query: Init = { policySpecifier: { case: "queryParameter", value: { name: "q" } } };
const source: Init = { policySpecifier: { case: "connectionProperties", value: { sourceIp: true } } };
const rotated = (first: bigint, second: bigint): bigint => BigInt.asUintN(64, (first << 1n) | (first >> 63n)) ^ second;

describe("hashes", () => {
  const cases: [string, Init[], Fields, string, bigint | undefined][] = [
    ["a header, whatever its case", [header("X-User")], { "x-USER": "ann" }, "/", hashOf("ann")],
    ["nothing without the header", [header("x-user")], {}, "/", undefined],
    ["a query parameter, decoded", [query], {}, "/?p=1&q=a%20b", hashOf("a b")],
    ["nothing without the parameter", [query], {}, "/?p=1", undefined],
    ["the caller's address", [source], {}, "/", hashOf("10.1.2.3")],
    ["a cookie among others", [cookie(undefined)], { cookie: ["a=b; id=7", "z=1"] }, "/", hashOf("7")],
    ["a cookie without its quotes", [cookie(undefined)], { cookie: 'id="7"' }, "/", hashOf("7")],
    ["no cookie of a longer name", [cookie(undefined)], { cookie: "xid=7; idx=8" }, "/", undefined],
    ["two policies in their order", [header("a"), source], { a: "1" }, "/", rotated(hashOf("1"), hashOf("10.1.2.3"))],
    ["the second one when the first has nothing", [header("a"), source], {}, "/", hashOf("10.1.2.3")],
    ["no further than a terminal one", [header("a", true), source], { a: "1" }, "/", hashOf("1")],
    ["past a terminal one that has nothing", [header("a", true), source], {}, "/", hashOf("10.1.2.3")],
  ];
  for (const [name, policies, fields, path, want] of cases)
    test(name, () => expect(hashFor(policies, fields, path)).toEqual({ hash: want, added: [] }));
  test("no policy at all, or only such as we cannot have, costs nothing", () => {
    expect(compile()).toBeUndefined();
    expect(compile({ policySpecifier: { case: "filterState", value: { key: "k" } } })).toBeUndefined();
  });
});

describe("cookies that are missing", () => {
  test("are made where they have a time to live", () => {
    const { hash, added } = hashFor([
      cookie(90, { path: "/p", attributes: [{ name: "SameSite", value: "Lax" }, { name: "Secure" }] }),
    ]);
    const made = /^set-cookie: id="([0-9a-f]{16})"; Max-Age=90; Path=\/p; SameSite=Lax; Secure; HttpOnly\r\n$/.exec(
      added[0]!,
    );
    expect([added.length, hash]).toEqual([1, hashOf(made![1]!)]);
  });
  test("live until the browser closes with a time of 0", () =>
    expect(hashFor([cookie(0)]).added[0]).toMatch(/^set-cookie: id="[0-9a-f]{16}"; HttpOnly\r\n$/));
  test("cannot smuggle a header", () => {
    for (const more of [{ path: "/\r\nx: y" }, { name: "a;b" }, { attributes: [{ name: "a", value: "b\nc" }] }])
      expect(() => compile(cookie(1, more))).toThrow("cannot be set as a cookie");
  });
});
