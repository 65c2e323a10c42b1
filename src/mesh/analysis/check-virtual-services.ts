// VirtualServices: what their routes lead to, which gateways carry them, who else wants their hosts.

import { keyOf } from "../../api/object.ts";
import type { VirtualService } from "../../api/types.ts";
import { delegateKeys } from "../delegates.ts";
import { hostCovers, isVisible, resolveGateway, resolveHost } from "../hosts.ts";
import type { HttpRule, RuleSet } from "../types.ts";
import type { Cluster, HostEntry } from "./cluster.ts";
import { didYouMean, nearest } from "./suggest.ts";
import type { Check, Report } from "./types.ts";

interface Destination {
  host?: string;
  subset?: string;
  port?: { number?: number };
}

interface Led {
  destination: Destination;
  path: string;
  isMirror: boolean;
  isHttp: boolean;
  weight: number | undefined;
  /** How many share the traffic. */
  among: number;
}

/** Every destination of a VirtualService with its place. */
export function destinationsOf({ spec }: VirtualService): Led[] {
  const led: Led[] = [];
  const routes = (
    list: readonly { destination?: Destination; weight?: number }[] | undefined,
    path: string,
    isHttp: boolean,
  ): void => {
    list?.forEach(({ destination, weight }, i) => {
      if (destination === undefined) return;
      led.push({ destination, path: `${path}[${i}].destination`, isMirror: false, isHttp, weight, among: list.length });
    });
  };
  const mirror = (destination: Destination | undefined, path: string): void => {
    if (destination) led.push({ destination, path, isMirror: true, isHttp: true, weight: undefined, among: 1 });
  };
  spec?.http?.forEach((rule, i) => {
    routes(rule.route, `spec.http[${i}].route`, true);
    mirror(rule.mirror, `spec.http[${i}].mirror`);
    rule.mirrors?.forEach((each, j) => {
      mirror(each.destination, `spec.http[${i}].mirrors[${j}].destination`);
    });
  });
  for (const protocol of ["tls", "tcp"] as const)
    spec?.[protocol]?.forEach((rule, i) => {
      routes(rule.route, `spec.${protocol}[${i}].route`, false);
    });
  return led;
}

export const checkDestinations: Check = (cluster, report) => {
  for (const { object, namespace } of cluster.model.ruleSets)
    for (const led of destinationsOf(object)) {
      const { destination, path, weight, among } = led;
      const entry = cluster.hostOf(destination.host ?? "", namespace);
      if (entry === undefined) reportUnknownHost(cluster, report, object, led, namespace);
      else {
        checkPort(report, object, led, entry);
        if (destination.subset) checkSubset(cluster, report, object, led, entry, namespace);
      }
      if (among > 1 && !weight)
        report(
          "MB0104",
          object,
          path.replace(/\.destination$/, ".weight"),
          `destination ${destination.host} has weight 0: it gets no requests`,
          "give it a weight, or remove it",
        );
    }
};

function reportUnknownHost(
  cluster: Cluster,
  report: Report,
  object: VirtualService,
  { destination: { host = "" }, path, isMirror }: Led,
  namespace: string,
): void {
  const full = resolveHost(host, namespace, "cluster.local");
  const elsewhere = cluster.hosts.filter((entry) => entry.host === full || entry.service?.name === host.split(".")[0]);
  let fix: string;
  if (elsewhere.some((entry) => entry.host === full)) fix = `${full} is not exported to namespace ${namespace}`;
  else if (!host.includes(".") && elsewhere[0] !== undefined)
    fix = `a short name means this namespace; there is "${elsewhere[0].host}"`;
  else fix = suggestHost(cluster, host, namespace);
  report(
    "IST0101",
    object,
    `${path}.host`,
    `Referenced ${isMirror ? "mirror host" : "host"} not found: "${host}"`,
    fix,
  );
}

function suggestHost(cluster: Cluster, host: string, namespace: string): string {
  const short = cluster.hosts.flatMap((entry) => (entry.namespace === namespace && entry.service?.name) || []);
  const near = host.includes(".") ? undefined : nearest(host, short);
  if (near !== undefined) return `did you mean "${near}"?`;
  const all = cluster.hosts.map((entry) => entry.host);
  return didYouMean(host, host.includes(".") ? all : [...short, ...all], "there is no Service and no ServiceEntry");
}

function checkPort(
  report: Report,
  object: VirtualService,
  { destination, path }: Led,
  { ports, host }: HostEntry,
): void {
  const number = destination.port?.number;
  if (number === undefined) {
    if (ports.length > 1)
      report(
        "IST0112",
        object,
        path,
        `This VirtualService routes to a service "${destination.host}" that exposes multiple ports [${ports.join(" ")}]. Specifying a port in the destination is required to disambiguate.`,
        `add "port: { number: ${ports[0]} }" to the destination`,
      );
    return;
  }
  if (ports.length > 0 && !ports.includes(number))
    report(
      "IST0101",
      object,
      `${path}.port.number`,
      `Referenced host:port not found: "${destination.host}:${number}"`,
      `${host} has ${ports.length === 1 ? "port" : "ports"} ${ports.join(", ")}`,
    );
}

function checkSubset(
  { model }: Cluster,
  report: Report,
  object: VirtualService,
  { destination: { host, subset }, path }: Led,
  entry: HostEntry,
  namespace: string,
): void {
  const policies = [...(model.policiesByHost.get(entry.host) ?? []), ...(model.policiesByHost.get("*") ?? [])].filter(
    (policy) => hostCovers(policy.host, entry.host) && isVisible(policy.exportTo, namespace),
  );
  const names = policies.flatMap(({ object: rule }) => (rule.spec?.subsets ?? []).map(({ name }) => name));
  if (names.includes(subset!)) return;
  const fix =
    policies.length === 0
      ? `there is no DestinationRule for ${entry.host}: requests are answered with 503 (NC)`
      : didYouMean(subset!, names, `DestinationRule ${keyOf(policies[0]!.object)} has no subsets`);
  report(
    "IST0101",
    object,
    `${path}.subset`,
    `Referenced host+subset in destinationrule not found: "${host}+${subset}"`,
    fix,
  );
}

export const checkGatewaysOfRules: Check = (cluster, report) => {
  const { model } = cluster;
  const gateways = new Map(model.gateways.map((gateway) => [keyOf(gateway), gateway]));
  for (const { object, namespace, hosts } of model.ruleSets) {
    const check = (name: string, field: string): void => {
      if (name === "mesh") return;
      if (name.includes("x-istio-autogenerated-k8s-gateway") || /-istio-autogenerated-k8s-gateway/.test(name)) {
        report(
          "IST0165",
          object,
          field,
          `Gateway reference in VirtualService ${keyOf(object)} is to an implementation-generated internal Gateway: ${name}.`,
          "write an HTTPRoute for the Gateway of the Gateway API instead",
        );
        return;
      }
      const key = resolveGateway(name, namespace);
      const gateway = gateways.get(key);
      if (gateway === undefined) {
        const known = [...gateways.keys()];
        const sameName = known.find((each) => each.endsWith(`/${name}`));
        const fix = sameName ? `did you mean "${sameName}"?` : didYouMean(key, known, "there is no Gateway");
        report("IST0101", object, field, `Referenced gateway not found: "${name}"`, fix);
        return;
      }
      const served = (gateway.spec?.servers ?? []).flatMap((server) => server.hosts);
      const fits = served.some((text) => {
        const [own, host] = text.includes("/") ? (text.split("/", 2) as [string, string]) : ["*", text];
        const admitted = own === "*" || (own === "." ? gateway.metadata.namespace : own) === namespace;
        return admitted && hosts.some((each) => hostCovers(host, each) || hostCovers(each, host));
      });
      if (hosts.length > 0 && !fits)
        report(
          "IST0132",
          object,
          field,
          `one or more host [${(object.spec?.hosts ?? []).join(" ")}] defined in VirtualService ${keyOf(object)} not found in Gateway ${key}.`,
          `the gateway's servers have ${served.map((each) => `"${each}"`).join(", ")}`,
        );
    };
    object.spec?.gateways?.forEach((name, i) => {
      check(name, `spec.gateways[${i}]`);
    });
    object.spec?.http?.forEach((rule, i) => {
      (rule.match as { gateways?: string[] }[] | undefined)?.forEach((match, j) => {
        match.gateways?.forEach((name, k) => {
          check(name, `spec.http[${i}].match[${j}].gateways[${k}]`);
        });
      });
    });
  }
};

export const checkDelegates: Check = ({ model }, report) => {
  const keys = model.ruleSets.filter(({ hosts }) => hosts.length === 0).map(({ key }) => key);
  for (const rules of model.ruleSets) {
    const wanted = delegateKeys(rules);
    let next = 0;
    rules.object.spec?.http?.forEach((rule, i) => {
      if (rule.delegate === undefined) return;
      const key = wanted[next++]!;
      if (keys.includes(key)) return;
      const exists = model.ruleSets.some((each) => each.key === key);
      const fix = exists
        ? `VirtualService ${key} has hosts; a delegate must have none`
        : didYouMean(key, keys, "there is no VirtualService without hosts");
      report("IST0101", rules.object, `spec.http[${i}].delegate.name`, `Referenced delegate not found: "${key}"`, fix);
    });
  }
};

/** In the mesh the oldest rule for a host wins; at a gateway all are put together. */
export const checkSharedHosts: Check = ({ model }, report) => {
  const byHost = new Map<string, RuleSet[]>();
  for (const rules of model.ruleSets)
    for (const host of rules.hosts) byHost.set(host, [...(byHost.get(host) ?? []), rules]);
  for (const [host, all] of byHost) {
    const inMesh = all.filter(({ gateways }) => gateways.has("mesh"));
    const groups = inMesh.filter((a) => inMesh.some((b) => a !== b && overlaps(a, b)));
    for (const rules of groups) {
      const field = `spec.hosts[${rules.hosts.indexOf(host)}]`;
      const names = groups
        .map(({ key }) => key)
        .sort()
        .join(",");
      report(
        "IST0109",
        rules.object,
        field,
        `The VirtualServices ${names} associated with mesh gateway define the same host ${host} which can lead to undefined behavior. This can be fixed by merging the conflicting VirtualServices into a single resource.`,
        `${groups[0]!.key} is the oldest and is the one in use`,
      );
      const shared = groups.find(
        (other) => other !== rules && [...rules.gateways].some((name) => name !== "mesh" && other.gateways.has(name)),
      );
      if (shared !== undefined)
        report(
          "MB0106",
          rules.object,
          field,
          `host ${host}: at the gateway the rules of ${rules.key} and ${shared.key} are put together, in the mesh only ${groups[0]!.key} counts`,
          "put the rules into one VirtualService, or bind each to gateways or to mesh only",
        );
    }
  }
};

const overlaps = (a: RuleSet, b: RuleSet): boolean =>
  a.exportTo === undefined ||
  b.exportTo === undefined ||
  [...a.exportTo].some((namespace) => b.exportTo!.has(namespace));

/** A rule with subsets for a host in the mesh does not hold for a gateway's route to the same host. */
export const checkSubsetsAtGateways: Check = ({ model }, report) => {
  const withSubsets = new Map<string, RuleSet>();
  for (const rules of model.ruleSets)
    if (rules.gateways.has("mesh"))
      for (const { destination } of destinationsOf(rules.object)) {
        const host = resolveHost(destination.host ?? "", rules.namespace, "cluster.local");
        if (destination.subset && rules.hosts.includes(host)) withSubsets.set(host, rules);
      }
  for (const rules of model.ruleSets) {
    if (rules.gateways.size === 0 || rules.gateways.has("mesh")) continue;
    for (const { destination, path } of destinationsOf(rules.object)) {
      const other = withSubsets.get(resolveHost(destination.host ?? "", rules.namespace, "cluster.local"));
      if (other === undefined || destination.subset) continue;
      report(
        "IST0140",
        rules.object,
        `${path}.host`,
        `Subset in virtual service ${other.key} has no effect on ingress gateway ${rules.key} requests`,
        `name the subset in this route, or bind ${other.key} to the gateway too`,
      );
    }
  }
};

/** HTTP rules are used on ports that are known to speak HTTP. */
export const checkHttpPorts: Check = ({ model }, report) => {
  for (const rules of model.ruleSets) {
    if (!rules.gateways.has("mesh") || !rules.object.spec?.http?.length) continue;
    rules.hosts.forEach((host, i) => {
      const service = model.serviceByHost.get(host);
      if (service === undefined || service.ports.length === 0) return;
      if (service.ports.some(({ protocol }) => ["http", "http2", "grpc"].includes(protocol))) return;
      const { name, port } = service.ports[0]!;
      report(
        "MB0110",
        rules.object,
        `spec.hosts[${i}]`,
        `no port of ${host} is known to speak HTTP: these http rules are not used by clients in the mesh`,
        `name the Service's port ${port} "http${name ? `-${name}` : ""}", or give it "appProtocol: http"`,
      );
    });
  }
};

export const checkFaults: Check = ({ model }, report) => {
  for (const { object } of model.ruleSets)
    object.spec?.http?.forEach((rule: HttpRule, i) => {
      for (const kind of ["delay", "abort"] as const) {
        const fault = rule.fault?.[kind] as { percentage?: object; percent?: number } | undefined;
        if (fault === undefined || fault.percentage !== undefined || fault.percent) continue;
        report(
          "MB0105",
          object,
          `spec.http[${i}].fault.${kind}`,
          `the ${kind} has no percentage: it is never injected`,
          'add "percentage: { value: 100 }"',
        );
      }
    });
};
