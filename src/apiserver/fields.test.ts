// Unknown and duplicate fields, with their paths.

import { expect, test } from "bun:test";
import { allKinds } from "../api/kinds/all.ts";
import { duplicateFields } from "./duplicate-fields.ts";
import { fieldProblems } from "./fields.ts";

const kindOf = (name: string) => allKinds.find((kind) => kind.kind === name)!;

test.each<[string, string, object, string[]]>([
  [
    "Deployment",
    "a known object",
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { labels: { any: "thing" } },
      spec: { template: { spec: { nodeSelector: { any: "thing" } } } },
    },
    [],
  ],
  ["Deployment", "a misspelt field", { spec: { replica: 3 } }, ['unknown field "spec.replica"']],
  [
    "Pod",
    "a field in a list",
    { spec: { containers: [{ name: "a" }, { imagePullPolice: "x" }] } },
    ['unknown field "spec.containers[1].imagePullPolice"'],
  ],
  ["Service", "a field at the top", { spek: {} }, ['unknown field "spek"']],
  [
    "Pod",
    "a name that JavaScript objects have anyway",
    { spec: { constructor: {} } },
    ['unknown field "spec.constructor"'],
  ],
  [
    "VirtualService",
    "a field of a custom resource",
    { spec: { http: [{ routes: [] }] } },
    ['unknown field "spec.http[0].routes"'],
  ],
  [
    "DestinationRule",
    "a known custom resource",
    {
      spec: {
        trafficPolicy: {
          loadBalancer: { consistentHash: { ringHash: { minimumRingSize: 1 }, httpCookie: { name: "a" } } },
        },
      },
    },
    [],
  ],
  ["ConfigMap", "a map of anything", { data: { any: "thing" } }, []],
  [
    "ServiceEntry",
    "a field of an endpoint",
    { spec: { endpoints: [{ address: "10.0.0.1", addres: "" }] } },
    ['unknown field "spec.endpoints[0].addres"'],
  ],
  ["Sidecar", "a listener's field", { spec: { egress: [{ host: [] }] } }, ['unknown field "spec.egress[0].host"']],
  ["WorkloadEntry", "a field at the top of a spec", { spec: { adress: "a" } }, ['unknown field "spec.adress"']],
  [
    "WorkloadGroup",
    "a template's field",
    { spec: { template: { label: {} } } },
    ['unknown field "spec.template.label"'],
  ],
  [
    "EnvoyFilter",
    "a patch's field beside Envoy's own configuration, which may hold anything",
    { spec: { configPatches: [{ patch: { value: { any: { thing: 1 } } }, aplyTo: "CLUSTER" }] } },
    ['unknown field "spec.configPatches[0].aplyTo"'],
  ],
  ["ProxyConfig", "a field of a spec", { spec: { concurency: 1 } }, ['unknown field "spec.concurency"']],
  [
    "WasmPlugin",
    "a field beside the plugin's own configuration, which may hold anything",
    { spec: { pluginConfig: { any: "thing" }, uri: "" } },
    ['unknown field "spec.uri"'],
  ],
  [
    "HTTPRoute",
    "a field behind references between schemas",
    { spec: { rules: [{ backendRefs: [{ name: "a", weigth: 1 }] }] } },
    ['unknown field "spec.rules[0].backendRefs[0].weigth"'],
  ],
  [
    "BackendTLSPolicy",
    "a validation's field",
    { spec: { validation: { host: "" } } },
    ['unknown field "spec.validation.host"'],
  ],
])("%s: %s", (kind, _name, object, expected) => {
  expect(fieldProblems(kindOf(kind), object, JSON.stringify(object))).toEqual(expected);
});

test.each([
  ['{"a":1,"b":{"c":1,"c":2}}', ["b.c"]],
  ['{"a":[{"b":1},{"b":1,"b":2}]}', ["a[1].b"]],
  ['{"a":1,"a":2,"a":3}', ["a", "a"]],
  ['{"a":{"x":1},"b":{"x":1}}', []],
  ['{"a":"b\\":1,\\"a\\":","c":[1,[2,"a"],{}]}', []],
  ['{"\\u0061":1,"a":2}', ["a"]],
  ["a: 1\na: 2", []],
])("duplicates in %s: %p", (text, expected) => {
  expect(duplicateFields(text)).toEqual(expected);
});
