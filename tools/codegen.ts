// Generates gen/ (Envoy v3 message types) from the protos that @grpc/grpc-js-xds ships. Run by `npm ci`; never committed.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { writeExtensions } from "./extensions.ts";
import { writeLazyDescriptors } from "./lazy-descriptors.ts";

const root = join(import.meta.dir, "..");
const deps = join(root, "node_modules/@grpc/grpc-js-xds/deps");
const final = join(root, "gen/xds");
/** Written beside and renamed at the end, so that nobody sees half of it. */
const out = join(root, "gen/.xds");
const stamp = join(final, ".stamp");

/** Messages the project uses; everything they import is generated with them. Add a root to use a new filter or resource. */
const roots = [
  "envoy/service/discovery/v3/discovery.proto",
  "envoy/config/bootstrap/v3/bootstrap.proto",
  "envoy/config/listener/v3/listener.proto",
  "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
  "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.proto",
  "envoy/config/route/v3/route.proto",
  "envoy/config/cluster/v3/cluster.proto",
  "envoy/config/endpoint/v3/endpoint.proto",
  "envoy/extensions/transport_sockets/tls/v3/tls.proto",
  "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
  "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
  "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
  "envoy/extensions/filters/network/rbac/v3/rbac.proto",
  "envoy/extensions/filters/http/router/v3/router.proto",
  "envoy/extensions/filters/http/rbac/v3/rbac.proto",
  "envoy/extensions/filters/http/ext_authz/v3/ext_authz.proto",
  "envoy/service/auth/v3/attribute_context.proto",
  "meshbed/authz/v1/ext_authz.proto",
  "envoy/extensions/filters/http/fault/v3/fault.proto",
  "envoy/extensions/filters/http/cors/v3/cors.proto",
  "envoy/extensions/filters/http/jwt_authn/v3/config.proto",
  "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto",
  "envoy/extensions/filters/http/compressor/v3/compressor.proto",
  "envoy/extensions/filters/http/header_mutation/v3/header_mutation.proto",
  "envoy/extensions/filters/http/set_metadata/v3/set_metadata.proto",
  "envoy/extensions/filters/http/buffer/v3/buffer.proto",
  "envoy/extensions/filters/http/health_check/v3/health_check.proto",
  "envoy/extensions/filters/http/grpc_stats/v3/config.proto",
  "envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit.proto",
  "envoy/extensions/compression/gzip/compressor/v3/gzip.proto",
  "envoy/extensions/compression/brotli/compressor/v3/brotli.proto",
  "envoy/extensions/path/match/uri_template/v3/uri_template_match.proto",
  "envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite.proto",
  "envoy/extensions/access_loggers/file/v3/file.proto",
  "envoy/extensions/access_loggers/stream/v3/stream.proto",
  "envoy/config/trace/v3/opentelemetry.proto",
  "envoy/config/trace/v3/zipkin.proto",
  "udpa/type/v1/typed_struct.proto",
  "xds/type/v3/typed_struct.proto",
  "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
  "envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.proto",
  "envoy/extensions/load_balancing_policies/least_request/v3/least_request.proto",
  "envoy/extensions/load_balancing_policies/maglev/v3/maglev.proto",
  "envoy/extensions/load_balancing_policies/random/v3/random.proto",
  "envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash.proto",
  "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.proto",
  "meshbed/workload/v1/workload.proto",
  "istio/networking/nds/v1/nds.proto",
  "meshbed/route/v1/route_patch.proto",
];

/** Written here, as no package ships them: source → place among the others. */
const own: Readonly<Record<string, string>> = {
  "src/xds/ext_authz.proto": "meshbed/authz/v1/ext_authz.proto",
  "src/xds/workload.proto": "meshbed/workload/v1/workload.proto",
  "src/xds/nds.proto": "istio/networking/nds/v1/nds.proto",
  "src/xds/route_patch.proto": "meshbed/route/v1/route_patch.proto",
};

const key = JSON.stringify([
  roots,
  ...Object.keys(own).map((source) => readFileSync(join(root, source), "utf8")),
  readFileSync(join(import.meta.dir, "lazy-descriptors.ts"), "utf8"),
  readFileSync(join(import.meta.dir, "descriptors.ts"), "utf8"),
  readFileSync(join(import.meta.dir, "extensions.ts"), "utf8"),
  ...["@grpc/grpc-js-xds", "@bufbuild/protoc-gen-es"].map(
    (name) => JSON.parse(readFileSync(join(root, "node_modules", name, "package.json"), "utf8")).version,
  ),
]);
if (existsSync(stamp) && readFileSync(stamp, "utf8") === key) process.exit(0);

const started = performance.now();
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const protos = join(out, ".protos");
for (const tree of readdirSync(deps)) cpSync(join(deps, tree), protos, { recursive: true });
for (const [source, place] of Object.entries(own)) cpSync(join(root, source), join(protos, place));
writeFileSync(join(protos, "buf.yaml"), "version: v2\n");

// The shipped protos are a few files short of consistent: jwt and header rules refer to a field of StringRules that is newer.
const rules = join(protos, "validate/validate.proto");
const text = readFileSync(rules, "utf8");
const start = text.indexOf("message StringRules");
const end = text.indexOf("\n}", start);
if (!text.slice(start, end).includes("ignore_empty"))
  writeFileSync(rules, `${text.slice(0, end)}\n  optional bool ignore_empty = 26;${text.slice(end)}`);

const template = JSON.stringify({
  version: "v2",
  plugins: [
    {
      local: [
        join(root, "node_modules/.bin/bun"),
        join(root, "node_modules/@bufbuild/protoc-gen-es/bin/protoc-gen-es"),
      ],
      out,
      opt: ["target=js+dts"],
      include_imports: true,
      strategy: "all",
    },
  ],
});
const buf = Bun.spawnSync(
  [
    join(root, "node_modules/.bin/buf"),
    "generate",
    ".",
    "--template",
    template,
    ...roots.flatMap((r) => ["--path", r]),
  ],
  {
    cwd: protos,
    stdout: "inherit",
    stderr: "inherit",
    env: { ...process.env, PATH: `${dirname(process.execPath)}:${process.env["PATH"]}` },
  },
);
if (!buf.success) process.exit(1);
rmSync(protos, { recursive: true, force: true });
await writeLazyDescriptors(out);
writeExtensions(out);
writeFileSync(join(out, ".stamp"), key);
rmSync(final, { recursive: true, force: true });
renameSync(out, final);
console.log(`gen/xds written in ${Math.round(performance.now() - started)} ms`);
