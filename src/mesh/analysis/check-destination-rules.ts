// DestinationRules: hosts, subsets, TLS towards servers, and what overrides what.

import { keyOf } from "../../api/object.ts";
import type { DestinationRule } from "../../api/types.ts";
import { hostCovers } from "../hosts.ts";
import { placeLabels } from "../translate-locality.ts";
import { peerModeOf, peerModesOf } from "../translate-security.ts";
import type { Policy, TrafficPolicy, Workload } from "../types.ts";
import type { Cluster } from "./cluster.ts";
import { didYouMean } from "./suggest.ts";
import type { Check } from "./types.ts";

const policiesOf = ({ model }: Cluster): Policy[] => [...model.policiesByHost.values()].flat();

/** Pods behind a DestinationRule's host; undefined where they are not known (ServiceEntries, hosts nobody has). */
function podsOf({ model, selected }: Cluster, host: string): Workload[] | undefined {
  const exact = model.serviceByHost.get(host);
  const services = (exact ? [exact] : host.startsWith("*") ? model.services : []).filter(
    (service) =>
      service.entry === undefined &&
      hostCovers(host, service.host) &&
      Object.keys(service.service.spec?.selector ?? {}).length > 0,
  );
  if (services.length === 0) return undefined;
  return services.flatMap((service) => selected(service.namespace, service.service.spec?.selector as Labels));
}

type Labels = Record<string, string> | undefined;

export const checkDestinationHosts: Check = (cluster, report) => {
  for (const { object, namespace, host } of policiesOf(cluster)) {
    const known = host.startsWith("*")
      ? cluster.hosts.some((entry) => hostCovers(host, entry.host))
      : cluster.hostOf(object.spec?.host ?? "", namespace) !== undefined;
    if (known) continue;
    const written = object.spec?.host ?? "";
    const names = cluster.hosts.flatMap((entry) =>
      written.includes(".") ? entry.host : (entry.service?.namespace === namespace && entry.service.name) || entry.host,
    );
    const same = cluster.hosts.find((entry) => entry.service?.name === written);
    report(
      "IST0174",
      object,
      "spec.host",
      `The host ${written} defined in the DestinationRule does not match any services in the mesh.`,
      same
        ? `a short name means this namespace; there is "${same.host}"`
        : didYouMean(written, names, "there is no Service"),
    );
  }
};

export const checkSubsets: Check = (cluster, report) => {
  for (const { object, host } of policiesOf(cluster)) {
    const pods = podsOf(cluster, host);
    if (pods === undefined) continue;
    object.spec?.subsets?.forEach(({ name, labels }, i) => {
      const wanted = labels ?? {};
      const fits = pods.some((pod) => {
        const own = placeLabels(cluster.model, pod.nodeName, pod.labels) as Record<string, string | undefined>;
        return Object.entries(wanted).every(([key, value]) => own[key] === value);
      });
      if (fits) return;
      const [key = ""] = Object.keys(wanted);
      const there = [...new Set(pods.flatMap((pod) => pod.labels[key] ?? []))];
      const fix =
        pods.length === 0
          ? "the host has no pods"
          : there.length === 0
            ? `no pod of the host has a label "${key}"`
            : `pods of the host have ${key}: ${there.sort().join(", ")}`;
      const message = `The Subset ${name} defined in the DestinationRule does not select any pods. Which may lead to 503 UH (NoHealthyUpstream).`;
      // That nothing leads to it makes it harmless.
      if (cluster.isRouted(host, name)) report("IST0173", object, `spec.subsets[${i}].labels`, message, fix);
    });
  }
};

export const checkUnusedSubsets: Check = (cluster, report) => {
  for (const { object, host } of policiesOf(cluster))
    object.spec?.subsets?.forEach(({ name, trafficPolicy }, i) => {
      if (trafficPolicy === undefined || cluster.isRouted(host, name)) return;
      report(
        "MB0103",
        object,
        `spec.subsets[${i}].trafficPolicy`,
        `no VirtualService routes to subset ${name}: its policy is never applied`,
        `route to it ("subset: ${name}"), or move the policy to spec.trafficPolicy`,
      );
    });
};

/** Of DestinationRules for one host in one namespace the oldest traffic policy counts. */
export const checkOverridden: Check = (cluster, report) => {
  const first = new Map<string, DestinationRule>();
  for (const { object, namespace, host } of policiesOf(cluster)) {
    if (object.spec?.trafficPolicy === undefined || object.spec.workloadSelector !== undefined) continue;
    const key = `${namespace} ${host} ${(object.spec.exportTo ?? []).join()}`;
    const older = first.get(key);
    if (older === undefined) {
      first.set(key, object);
      continue;
    }
    report(
      "MB0108",
      object,
      "spec.trafficPolicy",
      `DestinationRule ${keyOf(older)} for the same host is older: its traffic policy is used, this one is not`,
      "put both into one DestinationRule",
    );
  }
};

type Tls = NonNullable<TrafficPolicy["tls"]>;

export const checkServerCertificates: Check = (cluster, report) => {
  const unverified = (tls: Tls | undefined): tls is Tls =>
    (tls?.mode === "SIMPLE" || tls?.mode === "MUTUAL") &&
    !tls.caCertificates &&
    !tls.credentialName &&
    !tls.insecureSkipVerify;
  const fix = 'add "caCertificates" (a file, or "system" for the machine\'s own list) or "credentialName"';
  for (const { object } of policiesOf(cluster)) {
    const { name, namespace } = object.metadata;
    const look = (policy: TrafficPolicy | undefined, path: string): void => {
      const about = (tls: Tls) =>
        `DestinationRule ${name} in namespace ${namespace} has TLS mode set to ${tls.mode} but no caCertificates are set to validate server identity for host: ${object.spec?.host}`;
      if (unverified(policy?.tls)) report("IST0128", object, `${path}.tls`, about(policy.tls), fix);
      policy?.portLevelSettings?.forEach(({ tls, port }, i) => {
        if (unverified(tls))
          report(
            "IST0129",
            object,
            `${path}.portLevelSettings[${i}].tls`,
            `${about(tls)} at port ${port?.number}`,
            fix,
          );
      });
    };
    look(object.spec?.trafficPolicy, "spec.trafficPolicy");
    object.spec?.subsets?.forEach(({ trafficPolicy }, i) => {
      look(trafficPolicy, `spec.subsets[${i}].trafficPolicy`);
    });
  }
};

/** Clients that are told to speak plain text to pods that refuse it, or mutual TLS to pods that have none. */
export const checkMutualTls: Check = (cluster, report) => {
  for (const { object, host } of policiesOf(cluster)) {
    const tls = object.spec?.trafficPolicy?.tls;
    if (tls?.mode === undefined) continue;
    const pods = podsOf(cluster, host) ?? [];
    const modes = pods.map((pod) => (pod.injected ? peerModesOf(cluster.model, pod) : undefined));
    const strict = modes.some((mode) => mode !== undefined && peerModeOf(mode, 0) === "STRICT");
    const without = pods.length > 0 && modes.every((mode) => mode === undefined || peerModeOf(mode, 0) === "DISABLE");
    const wantsMesh = tls.mode === "ISTIO_MUTUAL";
    if (!(strict && !wantsMesh) && !(without && wantsMesh)) continue;
    const says = strict ? "STRICT" : "no mutual TLS";
    report(
      "IST0113",
      object,
      "spec.trafficPolicy.tls.mode",
      `A DestinationRule and Policy are in conflict with regards to mTLS for host ${object.spec?.host}. The DestinationRule "${keyOf(object)}" specifies that mTLS must be ${wantsMesh} but ${strict ? "PeerAuthentication" : "the pods"} specify ${says}.`,
      strict
        ? "remove the tls setting (mutual TLS is used by itself), or use mode ISTIO_MUTUAL"
        : "the pods are not in the mesh: remove the tls setting",
    );
  }
};
