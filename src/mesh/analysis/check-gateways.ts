// Gateways: the pods that carry them, their ports, certificates, and gateways that want the same.

import { createPrivateKey, X509Certificate } from "node:crypto";
import { keyOf } from "../../api/object.ts";
import { matchesMap } from "../../api/selectors.ts";
import type { Gateway, Secret } from "../../api/types.ts";
import { hostIntersection } from "../hosts.ts";
import { selects } from "../translate-listeners.ts";
import type { GatewayServer, Workload } from "../types.ts";
import type { Cluster } from "./cluster.ts";
import { didYouMean, nearest } from "./suggest.ts";
import type { Check, Report } from "./types.ts";

const selectorText = (selector: Record<string, string> | undefined): string =>
  Object.entries(selector ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join(",");

const podsOf = ({ model }: Cluster, gateway: Gateway): Workload[] =>
  model.workloads.filter((workload) => workload.gateway && matchesMap(gateway.spec?.selector, workload.labels));

export const checkGatewayPods: Check = (cluster, report) => {
  for (const gateway of cluster.model.gateways) {
    const pods = podsOf(cluster, gateway);
    if (pods.length === 0) {
      const text = selectorText(gateway.spec?.selector);
      const labels = cluster.model.workloads
        .filter((workload) => workload.gateway)
        .flatMap((workload) => Object.entries(workload.labels).map(([key, value]) => `${key}=${value}`))
        .filter((label) => !label.startsWith("pod-template-hash="));
      const [key] = Object.keys(gateway.spec?.selector ?? {});
      const none = "there is no gateway pod (a Deployment with `image: auto`)";
      const fix = didYouMean(text, labels, none);
      report(
        "IST0101",
        gateway,
        key ? `spec.selector[${key}]` : "spec.selector",
        `Referenced selector not found: "${text}"`,
        fix,
      );
      continue;
    }
    const services = cluster.model.services.filter(({ namespace, service }) =>
      pods.some((pod) => pod.namespace === namespace && selects(service.spec?.selector, pod.labels)),
    );
    if (services.length === 0) continue;
    const ports = new Set(
      services.flatMap((service) => service.ports.flatMap(({ port, targetPort }) => [port, targetPort])),
    );
    gateway.spec?.servers?.forEach(({ port }, i) => {
      if (ports.has(port.number)) return;
      report(
        "IST0162",
        gateway,
        `spec.servers[${i}].port.number`,
        `The gateway is listening on a target port (port ${port.number}) that is not defined in the Service associated with its workload instances (Pod selector ${selectorText(gateway.spec?.selector)}). If you need to access the gateway port through the gateway Service, it will not be available.`,
        `Service ${keyOf(services[0]!.service)} has ${services[0]!.ports.map((each) => each.port).join(", ")}`,
      );
    });
  }
};

export const checkConflictingGateways: Check = ({ model }, report) => {
  const servers = model.gateways.flatMap((gateway) =>
    (gateway.spec?.servers ?? []).map((server, index) => ({ gateway, server, index })),
  );
  for (const { gateway, server, index } of servers) {
    const selector = selectorText(gateway.spec?.selector);
    const others = servers.filter(
      (other) =>
        other.gateway !== gateway &&
        other.server.port.number === server.port.number &&
        selectorText(other.gateway.spec?.selector) === selector &&
        sameHost(server, other.server),
    );
    if (others.length === 0) continue;
    const names = [...new Set(others.map((other) => keyOf(other.gateway)))].join(",");
    report(
      "IST0145",
      gateway,
      `spec.servers[${index}].hosts`,
      `Conflict with gateways ${names} (workload selector ${selector}, port ${server.port.number}, hosts ${server.hosts.join(",")}).`,
      "give each gateway hosts of its own, or put the servers into one Gateway",
    );
  }
};

/** As Istio: a wildcard conflicts with what it covers, and the other way round. */
const sameHost = (a: GatewayServer, b: GatewayServer): boolean =>
  a.hosts.some((host) => b.hosts.some((other) => hostIntersection(host, other) !== undefined));

interface Named {
  gateway: Gateway;
  name: string;
  secret: Secret | undefined;
  field: string;
  namespace: string;
}

/** Certificates a server takes from Secrets, looked up where the gateway's pods run. */
function credentialsOf(cluster: Cluster): Named[] {
  return cluster.model.gateways.flatMap((gateway) => {
    const namespace = podsOf(cluster, gateway)[0]?.namespace;
    if (namespace === undefined) return [];
    return (gateway.spec?.servers ?? []).flatMap(({ tls }, i) => {
      const path = `spec.servers[${i}].tls`;
      const several = (tls?.credentialNames ?? []).map((name, j) => [name, `${path}.credentialNames[${j}]`] as const);
      const all = tls?.credentialName ? [[tls.credentialName, `${path}.credentialName`] as const, ...several] : several;
      return all.map(([name, field]) => ({
        gateway,
        name,
        field,
        namespace,
        secret: cluster.secrets.get(name.includes("/") ? name : `${namespace}/${name}`),
      }));
    });
  });
}

export const checkCredentials: Check = (cluster, report) => {
  const byCertificate = new Map<string, Named[]>();
  for (const named of credentialsOf(cluster)) {
    const { gateway, name, secret, field, namespace } = named;
    if (secret === undefined) {
      reportMissing(cluster, report, named);
      continue;
    }
    // Known to be there, without its content: the testbed makes it.
    if (secret.data === undefined && secret.stringData === undefined) continue;
    const certificate = textOf(secret, "tls.crt") ?? textOf(secret, "cert");
    const problem = certificateProblem(certificate, textOf(secret, "tls.key") ?? textOf(secret, "key"));
    if (problem !== undefined)
      report(
        "IST0161",
        gateway,
        field,
        `The credential referenced by the Gateway ${gateway.metadata.name} in namespace ${gateway.metadata.namespace} is invalid, which can cause the traffic not to work as expected.`,
        `Secret ${namespace}/${name}: ${problem}`,
      );
    else byCertificate.set(certificate!, [...(byCertificate.get(certificate!) ?? []), named]);
  }
  for (const all of byCertificate.values()) {
    const names = [...new Set(all.map(({ gateway }) => keyOf(gateway)))].sort();
    if (names.length < 2) continue;
    for (const { gateway, field } of all)
      report(
        "IST0138",
        gateway,
        field,
        `Duplicate certificate in multiple gateways [${names.join(" ")}] may cause 404s if clients re-use HTTP2 connections.`,
        "put the servers into one Gateway, or give each its own certificate",
      );
  }
};

function reportMissing(cluster: Cluster, report: Report, { gateway, name, field, namespace }: Named): void {
  const there = [...cluster.secrets.values()].filter(({ metadata }) => metadata.namespace === namespace);
  const elsewhere = [...cluster.secrets.values()].find(({ metadata }) => metadata.name === name);
  const near = nearest(
    name,
    there.map(({ metadata }) => metadata.name),
  );
  const fix = elsewhere
    ? `there is one in namespace ${elsewhere.metadata.namespace}; the gateway's pods run in ${namespace} and read Secrets there`
    : near
      ? `did you mean "${near}"?`
      : `make it: kubectl create -n ${namespace} secret tls ${name} --key=… --cert=…`;
  report("IST0101", gateway, field, `Referenced credentialName not found: "${name}"`, fix);
}

function textOf(secret: Secret, key: string): string | undefined {
  const data = secret.data?.[key] as string | undefined;
  if (data !== undefined) return Buffer.from(data, "base64").toString();
  return secret.stringData?.[key] as string | undefined;
}

function certificateProblem(certificate: string | undefined, key: string | undefined): string | undefined {
  if (certificate === undefined) return "it has no tls.crt";
  if (key === undefined) return "it has no tls.key";
  let parsed: X509Certificate;
  try {
    parsed = new X509Certificate(certificate);
  } catch {
    return "tls.crt is no certificate";
  }
  try {
    if (!parsed.checkPrivateKey(createPrivateKey(key))) return "tls.key does not belong to tls.crt";
  } catch {
    return "tls.key is no private key";
  }
  return undefined;
}

export const checkRoutesOfGateways: Check = ({ model }, report) => {
  for (const gateway of model.gateways) {
    const servers = gateway.spec?.servers ?? [];
    const redirectsOnly = servers.every(({ tls }) => tls?.httpsRedirect === true || tls?.mode === "AUTO_PASSTHROUGH");
    if (redirectsOnly || model.ruleSets.some(({ gateways }) => gateways.has(keyOf(gateway)))) continue;
    report(
      "MB0113",
      gateway,
      "metadata.name",
      `no VirtualService is bound to Gateway ${keyOf(gateway)}: it answers 404`,
      `add "gateways: [${keyOf(gateway)}]" to a VirtualService`,
    );
  }
};
