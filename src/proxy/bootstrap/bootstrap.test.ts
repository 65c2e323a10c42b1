// Reading Envoy bootstrap files: what is taken, and the exact words for what is not.
import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HttpConnectionManager } from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { HttpConnectionManagerSchema } from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { createSelfSigned } from "../../identity/authority.ts";
import { realClock } from "../../kernel/clock.ts";
import { unpack } from "../compile/any.ts";
import { readBootstrap } from "./bootstrap.ts";

const examples = join(import.meta.dir, "../../../examples/proxy");

const manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const address = (port: number) => `{ socket_address: { address: 127.0.0.1, port_value: ${port} } }`;
const cluster = (name: string, more = "") =>
  `{ name: ${name}, load_assignment: { cluster_name: ${name}, endpoints: [] }${more} }`;
/** A listener on one line; `more` goes into its connection manager. */
const listener = (name: string, port: number, to = "web", more = "") =>
  `{ name: ${name}, address: ${address(port)}, filter_chains: [ { filters: [ { name: http, typed_config: { "@type": ${manager}, stat_prefix: in, ` +
  `route_config: { virtual_hosts: [ { name: all, domains: ["*"], routes: [ { match: { prefix: / }, route: { cluster: ${to} } } ] } ] }, ` +
  `http_filters: [ { name: router, typed_config: { "@type": ${router} } } ]${more} } } ] } ] }`;
const file = (listeners: string[], clusters: string[], rest = "") =>
  `static_resources:\n  listeners:\n${listeners.map((text) => `  - ${text}\n`).join("")}  clusters:\n${clusters.map((text) => `  - ${text}\n`).join("")}${rest}`;

const problemsOf = (text: string): string[] => {
  try {
    readBootstrap(text, "f.yaml", {});
  } catch (error) {
    return (error as Error).message.split("\n").slice(1);
  }
  return [];
};

test("every example is valid", () => {
  const before = process.cwd();
  const folder = mkdtempSync(join(tmpdir(), "meshbed-bootstrap-"));
  process.chdir(folder);
  try {
    for (const name of readdirSync(examples)) {
      const text = readFileSync(join(examples, name), "utf8");
      if (name === "tls.yaml") {
        expect(() => readBootstrap(text, name, {})).toThrow("cannot be read");
        continue;
      }
      expect(readBootstrap(text, name, {}).listeners.length).toBeGreaterThan(0);
    }
  } finally {
    process.chdir(before);
  }
});

test("secrets come from files relative to the working folder, and from the environment", async () => {
  const before = process.cwd();
  const folder = mkdtempSync(join(tmpdir(), "meshbed-bootstrap-"));
  const { certPem, keyPem } = await createSelfSigned({
    commonName: "localhost",
    dnsNames: ["localhost"],
    lifetimeMs: 3_600_000,
    clock: realClock,
  });
  writeFileSync(join(folder, "server.crt"), certPem);
  writeFileSync(join(folder, "server.key"), keyPem);
  process.chdir(folder);
  try {
    const text = readFileSync(join(examples, "tls.yaml"), "utf8");
    const type = readBootstrap(text, "tls.yaml", {}).secrets[0]!.type;
    expect(type.case === "tlsCertificate" && type.value.certificateChain?.specifier).toEqual({
      case: "inlineString",
      value: certPem,
    });
    const byVariable = text.replace("filename: server.key", "environment_variable: SERVER_KEY");
    const second = readBootstrap(byVariable, "tls.yaml", { SERVER_KEY: keyPem }).secrets[0]!.type;
    expect(second.case === "tlsCertificate" && second.value.privateKey?.specifier.value).toBe(keyPem);
    expect(() => readBootstrap(byVariable, "tls.yaml", {})).toThrow("private_key: the environment has no SERVER_KEY");
  } finally {
    process.chdir(before);
  }
});

test("YAML and JSON, snake_case and camelCase, are one file", () => {
  const yaml = file(
    [listener("in", 8080)],
    [cluster("web")],
    `admin: { address: ${address(9901)} }\nnode: { id: me, cluster: us }\n`,
  );
  const config = readBootstrap(yaml, "f.yaml", {});
  expect(config.admin).toEqual({ host: "127.0.0.1", port: 9901 });
  expect(config.node).toEqual({ id: "me", cluster: "us" });
  const json = JSON.stringify(Bun.YAML.parse(yaml)).replace(
    /"([a-z]+_[a-z_]+)":/g,
    (_, key: string) => `"${key.replace(/_(.)/g, (_all, letter: string) => letter.toUpperCase())}":`,
  );
  expect(json).toContain('"staticResources"');
  const again = readBootstrap(json, "f.json", {});
  expect(again.listeners).toEqual(config.listeners);
  expect(again.clusters).toEqual(config.clusters);
});

test("a typed configuration becomes its message", () => {
  const { listeners } = readBootstrap(
    file([listener("in", 8080, "web", ", stream_idle_timeout: 7s")], [cluster("web")]),
    "f.yaml",
    {},
  );
  const { configType } = listeners[0]!.filterChains[0]!.filters[0]!;
  const http = configType.case === "typedConfig" ? unpack(configType.value, HttpConnectionManagerSchema) : undefined;
  expect((http as HttpConnectionManager).streamIdleTimeout?.seconds).toBe(7n);
});

test("Istio's filter of metrics comes as a typed struct", () => {
  const stats =
    '{ name: istio.stats, typed_config: { "@type": type.googleapis.com/udpa.type.v1.TypedStruct, ' +
    "type_url: type.googleapis.com/stats.PluginConfig, value: { metrics: [ { drop: true } ] } } }, ";
  const text = file([listener("in", 8080).replace("http_filters: [ ", `http_filters: [ ${stats}`)], [cluster("web")]);
  expect(problemsOf(text)).toEqual([]);
});

test("UDP is refused", () => {
  const text = file([listener("in", 8080).replace("address: 127.0.0.1,", "protocol: UDP, $&")], [cluster("web")]);
  expect(problemsOf(text).join()).toContain("listener in: protocol UDP is not supported");
});

test("a listener without a name is called by its address", () => {
  const text = file([listener('""', 8080)], [cluster("web")]);
  expect(readBootstrap(text, "f.yaml", {}).listeners[0]!.name).toBe("127.0.0.1_8080");
});

test("what has no effect here is said, with its place, and is no problem", () => {
  const inspector = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
  const wordy = listener("in", 8080, "web", ", codec_type: AUTO, normalize_path: true, add_user_agent: true").replace(
    "filter_chains:",
    `listener_filters: [ { name: tls, typed_config: { "@type": ${inspector} } } ], tcp_backlog_size: 9, filter_chains:`,
  );
  const { notices } = readBootstrap(file([wordy], [cluster("web")], "layered_runtime: {}\n"), "f.yaml", {});
  expect(notices.map((notice) => notice.replace(/^f\.yaml:(\d+):\d+/, "$1"))).toEqual([
    "3: static_resources.listeners[0].tcp_backlog_size: has no effect here",
    "3: static_resources.listeners[0].filter_chains[0].filters[0].typed_config.add_user_agent: has no effect here",
    "6: layered_runtime: has no effect here",
  ]);
});

const good = cluster("web");
const broken: [name: string, text: string, problems: (string | RegExp)[]][] = [
  [
    "an empty file",
    "",
    [`f.yaml:1:1: must be a map with static_resources (see docs/proxy.md for a first file)`, /no listeners/],
  ],
  ["broken YAML", "a: [1\nb: 2\n", [/^f\.yaml:2:\d+: /]],
  ["a field twice", "node: {}\nnode: {}\n", [/^f\.yaml:2:1: Map keys must be unique$/]],
  [
    "an unknown field with a neighbour",
    file([listener("in", 8080)], [cluster("web", ", lb_polcy: RANDOM")]),
    ['f.yaml:5:73: static_resources.clusters[0].lb_polcy: unknown field "lb_polcy" (did you mean lb_policy?)'],
  ],
  [
    "an unknown field of its own",
    file([listener("in", 8080)], [good], "admin: { colour: red }"),
    [/^f\.yaml:6:10: admin\.colour: unknown field "colour" \(Admin has: access_log, /],
  ],
  [
    "a wrong type",
    file([listener("in", 8080).replace("8080", "http")], [good]),
    [
      'f.yaml:3:66: static_resources.listeners[0].address.socket_address.port_value: expected number (uint32), got "http"',
    ],
  ],
  [
    "a number for a string",
    file([listener("in", 8080).replace("stat_prefix: in", "stat_prefix: 1")], [good]),
    [/stat_prefix: expected string, got 1 \(write it in quotes: "1"\)$/],
  ],
  [
    "a list that is none",
    file([listener("in", 8080)], [good]).replace('domains: ["*"]', 'domains: "*"'),
    [/virtual_hosts\[0\]\.domains: must be a list, not string "\*"$/],
  ],
  [
    "a duration without a unit",
    file([listener("in", 8080)], [cluster("web", ", connect_timeout: 5")]),
    [
      'f.yaml:5:73: static_resources.clusters[0].connect_timeout: must be a duration such as "1.5s" (a string that ends with s), not number 5',
    ],
  ],
  [
    "an enum value",
    file([listener("in", 8080)], [cluster("web", ", lb_policy: ROUNDROBIN")]),
    ['f.yaml:5:73: static_resources.clusters[0].lb_policy: "ROUNDROBIN" is no LbPolicy (did you mean ROUND_ROBIN?)'],
  ],
  [
    "a misspelt type",
    file([listener("in", 8080).replace(router, `${router}s`)], [good]),
    [
      /http_filters\[0\]\.typed_config\["@type"\]: .*Routers is not supported \(did you mean type\.googleapis\.com\/envoy\.extensions\.filters\.http\.router\.v3\.Router\?\)$/,
    ],
  ],
  [
    "an unknown type",
    file([listener("in", 8080).replace(router, "type.googleapis.com/acme.Filter")], [good]),
    [/acme\.Filter is not supported \(supported: .*envoy\.extensions\.filters\.http\.router\.v3\.Router, /],
  ],
  [
    "an Any without a type",
    file([listener("in", 8080).replace(`{ "@type": ${router} }`, "{}")], [good]),
    [/typed_config: "@type" is missing \(/],
  ],
  [
    "two of a oneof",
    file([listener("in", 8080).replace("prefix: /", "prefix: /, path: /a")], [good]),
    [/match\.path: path and prefix exclude each other$/],
  ],
  [
    "dynamic resources",
    file([listener("in", 8080)], [good], "dynamic_resources: { ads_config: {} }\n"),
    [/^f\.yaml:6:1: dynamic_resources: a proxy that runs alone takes no configuration from an xDS server \(/],
  ],
  [
    "routes from elsewhere",
    file(
      [
        listener("in", 8080).replace(
          /route_config: .* \] \}, http_filters/,
          "rds: { route_config_name: a, config_source: { ads: {} } }, http_filters",
        ),
      ],
      [good],
    ),
    [/rds\.config_source: configuration from elsewhere \(xDS\) is not supported here/],
  ],
  [
    "endpoints from elsewhere",
    file([listener("in", 8080)], ["{ name: web, type: EDS }"]),
    [/^f\.yaml:5:18: static_resources\.clusters\[0\]\.type: EDS needs an xDS server/],
  ],
  [
    "one name twice",
    file([listener("in", 8080), listener("in", 8081)], [good]),
    ['f.yaml:4:7: static_resources.listeners[1].name: "in" is also the name of listeners[0]'],
  ],
  [
    "one address twice",
    file([listener("a", 8080), listener("b", 8080)], [good]),
    ["f.yaml:4:16: static_resources.listeners[1].address: 127.0.0.1:8080 is also the address of listener a"],
  ],
  [
    "a cluster that is not there",
    file([listener("in", 8080, "wbe")], [good]),
    [
      /^f\.yaml:3:\d+: static_resources\.listeners\[0\]\..*route\.cluster: there is no cluster "wbe" in static_resources$/,
    ],
  ],
  [
    "no terminal filter",
    file([`{ name: in, address: ${address(1)}, filter_chains: [ { filters: [] } ] }`], [good]),
    [/^f\.yaml:3:5: static_resources\.listeners\[0\]: .*no terminal filter/],
  ],
  [
    "a pipe",
    file([listener("in", 8080).replace(address(8080), "{ pipe: { path: /tmp/x } }")], [good]),
    [/only socket addresses/, /only socket addresses/],
  ],
];

for (const [name, text, problems] of broken)
  test(`${name} is told with its place`, () => {
    const found = problemsOf(text);
    expect(found).toHaveLength(problems.length);
    problems.forEach((problem, index) => {
      if (typeof problem === "string") expect(found[index]!).toBe(problem);
      else expect(found[index]!).toMatch(problem);
    });
  });

test("every mistake is told at once, in the file's order", () => {
  const text = file(
    [listener("in", 8080, "nowhere")],
    [cluster("web", ", lb_policy: NO"), cluster("web", ", connect_timeout: 1")],
    "oops: 1\n",
  );
  const lines = problemsOf(text).map((line) => line.split(":")[1]);
  expect(lines).toEqual(["5", "6", "7"]);
});

test("aliases cannot blow the file up", () => {
  const bomb = `a: &a [x, x, x, x, x, x, x, x, x, x]\n${["b", "c", "d", "e"].map((name, i) => `${name}: &${name} [${Array(10).fill(`*${"abcd"[i]}`).join(", ")}]`).join("\n")}\n`;
  expect(problemsOf(bomb)[0]).toContain("Excessive alias count");
});
