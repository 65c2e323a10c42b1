// Everything about static resources that a descriptor cannot say: names, addresses, references, and what the proxy cannot carry out.

import type { Bootstrap } from "#gen/xds/envoy/config/bootstrap/v3/bootstrap_pb.js";
import type { Cluster } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import type { Listener } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import type { Secret } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { VirtualClock } from "../../kernel/clock.ts";
import { messageOf } from "../../kernel/errors.ts";
import { silentLog } from "../../kernel/log.ts";
import { Metrics } from "../../kernel/metrics.ts";
import { seededRandom } from "../../kernel/random.ts";
import { typeUrls, type XdsSource } from "../../xds/types.ts";
import { socketAddress } from "../compile/any.ts";
import { InboundRegistry } from "../inbound.ts";
import { Sweeper } from "../sweep.ts";
import { SeriesRegistry } from "../telemetry/series.ts";
import { SecretStore } from "../tls/secrets.ts";
import { XdsNode } from "../xds_node.ts";
import type { FieldPath, Problem } from "./document.ts";

const inertSource: XdsSource = {
  subscribe: () => ({ setNames() {}, close() {} }),
  close() {},
};

/** `value`: the file as read, to find where a name is written. */
export function checkResources(bootstrap: Bootstrap, value: unknown): Problem[] {
  const { listeners = [], clusters = [], secrets = [] } = bootstrap.staticResources ?? {};
  const at = (kind: string, index: number): FieldPath => ["static_resources", kind, index];
  const problems: Problem[] = [];
  if (listeners.length === 0)
    problems.push({ path: ["static_resources"], message: "no listeners: there is nothing to serve" });
  problems.push(...unique("listeners", listeners), ...unique("clusters", clusters), ...unique("secrets", secrets));
  problems.push(...distinctAddresses(listeners), ...adminAddress(bootstrap));
  secrets.forEach((secret, index) => {
    attempt(at("secrets", index), problems, () => new SecretStore().take(secret));
  });
  const known = { clusters: namesOf(clusters), secrets: namesOf(secrets) };
  clusters.forEach((cluster, index) => {
    checkOne(typeUrls.cluster, cluster, at("clusters", index), known, value, problems);
  });
  listeners.forEach((listener, index) => {
    checkOne(typeUrls.listener, listener, at("listeners", index), known, value, problems);
  });
  return problems;
}

const namesOf = (resources: readonly { name: string }[]): ReadonlySet<string> =>
  new Set(resources.map(({ name }) => name));

function attempt(path: FieldPath, problems: Problem[], work: () => void): void {
  try {
    work();
  } catch (error) {
    problems.push({ path, message: messageOf(error) });
  }
}

function unique(kind: string, resources: readonly (Listener | Cluster | Secret)[]): Problem[] {
  const first = new Map<string, number>();
  return resources.flatMap(({ name }, index): Problem[] => {
    const path = ["static_resources", kind, index];
    if (name === "") return [{ path, message: "has no name" }];
    const earlier = first.get(name);
    if (earlier !== undefined)
      return [{ path: [...path, "name"], message: `${JSON.stringify(name)} is also the name of ${kind}[${earlier}]` }];
    first.set(name, index);
    return [];
  });
}

function distinctAddresses(listeners: readonly Listener[]): Problem[] {
  const first = new Map<string, string>();
  return listeners.flatMap(({ name, address, bindToPort }, index): Problem[] => {
    const path = ["static_resources", "listeners", index, "address"];
    if (bindToPort === false)
      return [
        { path, message: "bind_to_port: false needs a mesh that redirects connections; alone, a listener must bind" },
      ];
    let key: string;
    try {
      const { host, port } = socketAddress(address, `listener ${name}`);
      if (port === 0) return [];
      key = `${host}:${port}`;
    } catch (error) {
      return [{ path, message: messageOf(error) }];
    }
    const earlier = first.get(key);
    if (earlier !== undefined) return [{ path, message: `${key} is also the address of listener ${earlier}` }];
    first.set(key, name);
    return [];
  });
}

function adminAddress({ admin }: Bootstrap): Problem[] {
  const problems: Problem[] = [];
  if (admin?.address) attempt(["admin", "address"], problems, () => socketAddress(admin.address, "admin"));
  return problems;
}

interface Known {
  clusters: ReadonlySet<string>;
  secrets: ReadonlySet<string>;
}

/** Compiles one resource in a node of its own, with a clock that stands still. */
function checkOne(
  typeUrl: typeof typeUrls.cluster | typeof typeUrls.listener,
  message: Cluster | Listener,
  path: FieldPath,
  known: Known,
  value: unknown,
  problems: Problem[],
): void {
  const node = scratchNode();
  attempt(path, problems, () => {
    const { secretNames, edsName } = node.check(typeUrl, message);
    const missing = (what: string, name: string) =>
      problems.push({
        path: pathOf(value, path, name),
        message: `there is no ${what} ${JSON.stringify(name)} in static_resources`,
      });
    for (const name of secretNames) if (!known.secrets.has(name)) missing("secret", name);
    if (typeUrl === typeUrls.listener)
      for (const name of node.clusters.keys()) if (!known.clusters.has(name)) missing("cluster", name);
    if (edsName !== undefined)
      problems.push({
        path: [...path, "type"],
        message: "EDS needs an xDS server; alone, a cluster's endpoints stand in its load_assignment",
        fix: "type: STATIC, or STRICT_DNS for host names",
      });
  });
  node.close();
}

function scratchNode(): XdsNode {
  const clock = new VirtualClock();
  const runtime = {
    clock,
    random: seededRandom(0),
    log: silentLog,
    metrics: new Metrics(),
    series: new SeriesRegistry(new Metrics()),
    sweeper: new Sweeper(clock),
    inbound: new InboundRegistry(),
    resolve: () => Promise.reject(new Error("a check resolves no names")),
    podSource: () => undefined,
    isVirtual: () => true,
    draining: false,
    closes: "nothing" as const,
  };
  return new XdsNode(inertSource, "check", false, {
    runtime,
    sinks: { open: () => ({ write() {} }) },
    onListeners() {},
  });
}

/** Where below `path` a string stands in the file, or `path` itself. */
function pathOf(root: unknown, path: FieldPath, text: string): FieldPath {
  let value = root;
  for (const key of path) value = (value as Record<string | number, unknown> | undefined)?.[key];
  return find(value, path, text) ?? path;
}

function find(value: unknown, path: FieldPath, text: string): FieldPath | undefined {
  if (value === text) return path;
  if (typeof value !== "object" || value === null) return undefined;
  for (const [key, item] of Object.entries(value)) {
    const found = find(item, [...path, Array.isArray(value) ? Number(key) : key], text);
    if (found) return found;
  }
  return undefined;
}
