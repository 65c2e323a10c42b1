import { expect, test } from "bun:test";
import { readText, stepsOf } from "./sources.ts";

const text = `# two objects and something else
apiVersion: v1
kind: Service
metadata:
  name: web
  annotations:
    example.com/a.b: "1"
spec:
  ports:
    - name: http
      port: 80
---
replicas: 3
---
apiVersion: v1
kind: List
items:
  - { apiVersion: v1, kind: Secret, metadata: { name: key } }
`;

const placeOf = (field: string): [number, number, number] => {
  const { line, column, length } = readText(text, "a.yaml", true).sources[0]!.at(field);
  return [line, column, length];
};

test("finds where a field stands, an item of a list, a key with dots, and the parent of what is missing", () => {
  expect(placeOf("spec.ports[0].port")).toEqual([11, 13, 2]);
  expect(placeOf("metadata.annotations[example.com/a.b]")).toEqual([7, 22, 3]);
  expect(placeOf("metadata.annotations.example.com/a.b")).toEqual([7, 22, 3]);
  expect(placeOf("spec.ports[0]")).toEqual([10, 7, 1]);
  expect(placeOf("spec.ports[0].targetPort")).toEqual([10, 7, 1]);
  expect(placeOf("spec.selector")).toEqual([8, 1, 4]);
  expect(placeOf("")).toEqual([2, 1, 1]);
});

test("takes the items of lists, and passes over other documents only where asked to be lenient", () => {
  const lenient = readText(text, "a.yaml", true);
  expect(lenient.sources.map(({ object }) => object.kind)).toEqual(["Service", "Secret"]);
  expect(lenient.unreadable).toEqual([]);
  const strict = readText(text, "a.yaml");
  expect(strict.unreadable.map(({ position, message }) => [position.line, message])).toEqual([
    [13, "'apiVersion' is missing: this is no Kubernetes object"],
  ]);
});

test("says where a text is no YAML, and where a key is given twice", () => {
  const broken = readText("apiVersion: v1\nkind: [\n", "b.yaml").unreadable[0]!;
  expect([broken.position.file, broken.position.line]).toEqual(["b.yaml", 3]);
  const twice = readText("apiVersion: v1\nkind: A\nkind: B\nmetadata: { name: a }\n", "c.yaml").unreadable[0]!;
  expect([twice.position.line, twice.message]).toEqual([3, "Map keys must be unique"]);
});

test("reads JSON as well", () => {
  const { sources } = readText('{"apiVersion":"v1","kind":"Secret","metadata":{"name":"key"}}', "a.json");
  expect(sources[0]!.at("metadata.name").column).toBe(55);
});

test("splits paths at dots and brackets", () => {
  expect(stepsOf("spec.http[0].headers[x-a.b]")).toEqual(["spec", "http", "0", "headers", "x-a.b"]);
});
