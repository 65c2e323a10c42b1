// meshbed.yaml: what it accepts, and that a mistake is named with file, line and field.
import { expect, test } from "bun:test";
import { parseRate, parseSettings } from "./settings.ts";

test("a complete file is read, relative folders are meant from the file", () => {
  const settings = parseSettings(
    `nodes: 2\nlink: 1gbit\nports: { http: 9080 }\nmanifests: [k8s]\nimages:\n  shop/front:v1:\n    command: [bun, front.ts]\n    workingDir: app\n  shop/db: { command: "redis-server --port $PORT" }\n`,
    "/shop/meshbed.yaml",
  );
  expect(settings.nodes).toBe(2);
  expect(settings.manifests).toEqual(["/shop/k8s"]);
  expect(settings.images?.["shop/front:v1"]).toEqual({ command: ["bun", "front.ts"], workingDir: "/shop/app" });
  expect(settings.images?.["shop/db"]?.command).toEqual(["/bin/sh", "-c", "redis-server --port $PORT"]);
});

test("an empty file means no settings", () => {
  expect(parseSettings("", "meshbed.yaml")).toEqual({});
  expect(parseSettings("# nothing yet\n", "meshbed.yaml")).toEqual({});
});

const mistakes: [string, string, RegExp][] = [
  ["an unknown setting", "nodes: 2\nlinks: 1gbit\n", /meshbed\.yaml:2: 'links' is not a setting; known here: nodes/],
  ["a wrong type", "nodes: many\n", /meshbed\.yaml:1: 'nodes' must be a whole number from 1 to 50/],
  ["a nested mistake", "ports:\n  http: 80\n  api: 99999\n", /meshbed\.yaml:3: 'ports\.api' must be/],
  ["a bad rate", "link: fast\n", /meshbed\.yaml:1: 'link' must be a rate/],
  ["an image without command", "images:\n  a: { args: [x] }\n", /'images\.a\.command' is missing/],
  ["broken YAML", "nodes: [1\n", /meshbed\.yaml:\d+: /],
  [
    "a number where a string is meant",
    "images:\n  a:\n    command: x\n    env: { A: 1 }\n",
    /:4: 'images\.a\.env' must map/,
  ],
];
for (const [name, source, expected] of mistakes)
  test(`${name} is refused with its place`, () => {
    expect(() => parseSettings(source, "meshbed.yaml")).toThrow(expected);
  });

test("rates are tc's", () => {
  expect(parseRate("1gbit")).toBe(1e9);
  expect(parseRate("100Mbit")).toBe(1e8);
  expect(parseRate("10mbps")).toBe(8e7);
  expect(parseRate("0gbit")).toBeUndefined();
  expect(parseRate("fast")).toBeUndefined();
});
