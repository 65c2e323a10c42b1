// Services and the pods behind them: ports, protocols, selectors.

import { keyOf } from "../../api/object.ts";
import { matchesMap } from "../../api/selectors.ts";
import type { Deployment, Service } from "../../api/types.ts";
import { containerPortOf } from "../translate-listeners.ts";
import { nearest } from "./suggest.ts";
import type { Check } from "./types.ts";

/** Names a port may have, or begin with before a dash (Istio, "Explicit protocol selection"). */
const protocolNames = [
  "grpc",
  "grpc-web",
  "http",
  "http2",
  "https",
  "mongo",
  "mysql",
  "redis",
  "tcp",
  "tls",
  "udp",
  "hbone",
];

const isNamed = (name: string): boolean =>
  protocolNames.some((protocol) => name === protocol || name.startsWith(`${protocol}-`));

/** Services of the system itself, which Istio's analyzers leave alone too. */
const systemNamespaces = new Set(["kube-system", "kube-public", "kube-node-lease", "istio-system"]);

const portsOf = (service: Service) => service.spec?.ports ?? [];

export const checkPortNames: Check = ({ objects }, report) => {
  for (const service of objects.services) {
    if (systemNamespaces.has(service.metadata.namespace ?? "")) continue;
    portsOf(service).forEach(({ name = "", port, targetPort, appProtocol, protocol }, i) => {
      if (appProtocol || protocol === "UDP" || isNamed(name)) return;
      const field = name === "" ? `spec.ports[${i}]` : `spec.ports[${i}].name`;
      if (service.spec?.type === "ExternalName") {
        const message =
          "Port name for ExternalName service is invalid. Proxy may prevent tcp named ports and unmatched traffic for ports serving TCP protocol from being forwarded correctly";
        report("IST0150", service, field, message, 'name it after its protocol: "http", "tls-…"');
        return;
      }
      const near = nearest(name.split("-")[0] ?? "", protocolNames);
      report(
        "IST0118",
        service,
        field,
        `Port name ${name} (port: ${port}, targetPort: ${targetPort ?? port}) doesn't follow the naming convention of Istio port.`,
        near
          ? `did you mean "${near}"? Without a protocol the port is carried as TCP`
          : 'name it "http-…", "grpc-…" or "tcp-…", or set appProtocol; without a protocol the port is carried as TCP',
      );
    });
  }
};

export const checkSelectors: Check = (cluster, report) => {
  const { model } = cluster;
  for (const { service, namespace, ports, entry } of model.services) {
    if (entry !== undefined) continue;
    const selector = service.spec?.selector as Record<string, string> | undefined;
    if (selector === undefined || Object.keys(selector).length === 0) continue;
    const pods = cluster.selected(namespace, selector);
    if (pods.length === 0) {
      // A Deployment with no replicas is meant to have none.
      const waits = cluster.deployments.some(
        ({ metadata, spec }) =>
          metadata.namespace === namespace && matchesMap(selector, spec?.template?.metadata?.labels ?? {}),
      );
      if (waits) continue;
      const [key = "", value = ""] = Object.entries(selector)[0] ?? [];
      const values = model.workloads.flatMap((pod) => (pod.namespace === namespace && pod.labels[key]) || []);
      const near = nearest(value, values);
      report(
        "MB0111",
        service,
        `spec.selector[${key}]`,
        `no workload in namespace ${namespace} has the labels ${key}=${value}${Object.keys(selector).length > 1 ? ", …" : ""}: the service has no endpoints`,
        near ? `did you mean "${near}"?` : `pods of the namespace: ${labelsText(cluster.model.workloads, namespace)}`,
      );
      continue;
    }
    ports.forEach(({ name, port, targetPort }, i) => {
      if (typeof targetPort === "number" || pods.some((pod) => containerPortOf(pod, targetPort) !== undefined)) return;
      const names = pods.flatMap((pod) =>
        (pod.pod.spec?.containers ?? []).flatMap((container) =>
          (container.ports ?? []).flatMap((each) => each.name ?? []),
        ),
      );
      const near = nearest(targetPort, names);
      report(
        "MB0112",
        service,
        `spec.ports[${i}].targetPort`,
        `no container has a port named "${targetPort}": port ${name || port} leads nowhere`,
        near ? `did you mean "${near}"?` : `containers have ${[...new Set(names)].join(", ") || "no named ports"}`,
      );
    });
  }
};

function labelsText(
  workloads: readonly { namespace: string; labels: Readonly<Record<string, string>> }[],
  namespace: string,
): string {
  const texts = workloads
    .filter((pod) => pod.namespace === namespace)
    .map(({ labels }) => (labels["app"] === undefined ? "" : `app=${labels["app"]}`));
  return [...new Set(texts.filter((text) => text !== ""))].slice(0, 5).join("; ") || "none";
}

/** Services that select a Deployment's pods. */
const servicesOf = (services: readonly Service[], { metadata, spec }: Deployment): Service[] =>
  services.filter(({ metadata: { namespace }, spec: { selector } = {} }) => {
    const wanted = (selector ?? {}) as Record<string, string>;
    return (
      namespace === metadata.namespace &&
      Object.keys(wanted).length > 0 &&
      matchesMap(wanted, spec?.template?.metadata?.labels ?? {})
    );
  });

export const checkSharedPorts: Check = ({ objects, deployments }, report) => {
  for (const deployment of deployments) {
    // Gateways have no inbound side that ports could collide on.
    if (deployment.spec?.template?.spec?.containers?.some(({ image }) => image === "auto")) continue;
    const services = servicesOf(objects.services, deployment);
    const byPort = new Map<number, Map<string, string[]>>();
    const byTarget = new Map<string, Map<number, string>>();
    for (const service of services)
      for (const { port, targetPort, protocol = "TCP" } of portsOf(service)) {
        const names = byPort.get(port) ?? new Map<string, string[]>();
        byPort.set(port, names.set(protocol, [...(names.get(protocol) ?? []), keyOf(service)]));
        const target = String(targetPort ?? port);
        byTarget.set(target, (byTarget.get(target) ?? new Map<number, string>()).set(port, keyOf(service)));
      }
    const { name } = deployment.metadata;
    for (const [port, protocols] of byPort) {
      if (protocols.size < 2) continue;
      const names = [...protocols.values()].flat().sort().join(" ");
      const message = `This deployment ${name} is associated with multiple services using port ${port} but different protocols: [${names}]`;
      report("IST0116", deployment, "metadata.name", message, "use one protocol for the port, or different ports");
    }
    for (const [target, ports] of byTarget) {
      if (ports.size < 2 || new Set(ports.values()).size < 2) continue;
      const names = [...ports.values()].sort().join(" ");
      const message = `This deployment ${name} is associated with multiple services [${names}] using targetPort "${target}" but different ports: [${[...ports.keys()].sort((a, b) => a - b).join(" ")}].`;
      report("IST0137", deployment, "metadata.name", message, "give the services the same port for this targetPort");
    }
  }
};
