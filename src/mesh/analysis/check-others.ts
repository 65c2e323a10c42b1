// Sidecars, Telemetries, EnvoyFilters, ServiceEntries, statuses, and what meshbed itself does not carry out.

import { groupOf, keyOf } from "../../api/object.ts";
import { matchesMap } from "../../api/selectors.ts";
import type { EnvoyFilter, ServiceEntry } from "../../api/types.ts";
import { createProblemFinder } from "../problems-all.ts";
import type { Cluster } from "./cluster.ts";
import type { Code } from "./messages.ts";
import { nearest } from "./suggest.ts";
import type { Check, Report, Subject } from "./types.ts";

interface Selecting extends Subject {
  labels: Record<string, string> | undefined;
  field: string;
}

/** Of kinds of which one may hold for a pod: selectors that fit nothing, that overlap, and several without one. */
function checkExclusive(
  cluster: Cluster,
  report: Report,
  list: readonly Selecting[],
  codes: { conflict: Code; several: Code; plural: string },
): void {
  for (const [namespace = "", own] of Map.groupBy(list, ({ metadata }) => metadata.namespace)) {
    const without = own.filter(({ labels }) => labels === undefined || Object.keys(labels).length === 0);
    if (without.length > 1)
      for (const subject of without)
        report(
          codes.several,
          subject,
          "metadata.name",
          `The ${codes.plural} [${without.map(({ metadata }) => metadata.name).join(" ")}] in namespace "${namespace}" have no workload selector, which can lead to undefined behavior.`,
          "keep one, or give the others a selector",
        );
    const pods = cluster.model.workloads.filter((pod) => pod.namespace === namespace && (pod.injected || pod.gateway));
    const selecting = own.filter((subject) => !without.includes(subject));
    for (const subject of selecting) {
      const { labels = {}, field } = subject;
      const selected = pods.filter((pod) => matchesMap(labels, pod.labels));
      const [key = "", value = ""] = Object.entries(labels)[0] ?? [];
      if (selected.length === 0) {
        const text = Object.entries(labels)
          .map(([name, each]) => `${name}=${each}`)
          .join(",");
        const near = nearest(
          value,
          pods.flatMap((pod) => pod.labels[key] ?? []),
        );
        const fix = near
          ? `did you mean "${key}: ${near}"?`
          : `no pod in the mesh in namespace ${namespace} has these labels`;
        report("IST0101", subject, `${field}[${key}]`, `Referenced selector not found: "${text}"`, fix);
      }
      const shared = selected.find((pod) =>
        selecting.some((other) => other !== subject && matchesMap(other.labels ?? {}, pod.labels)),
      );
      if (shared === undefined) continue;
      const names = selecting
        .filter((each) => matchesMap(each.labels ?? {}, shared.labels))
        .map(({ metadata }) => metadata.name);
      report(
        codes.conflict,
        subject,
        field,
        `The ${codes.plural} [${names.sort().join(" ")}] in namespace "${namespace}" select the same workload pod "${shared.name}", which can lead to undefined behavior.`,
        "make the selectors exclude each other",
      );
    }
  }
}

export const checkSidecars: Check = (cluster, report) => {
  const list = cluster.objects.sidecars.map((sidecar) => ({
    ...sidecar,
    labels: sidecar.spec?.workloadSelector?.labels,
    field: "spec.workloadSelector.labels",
  }));
  checkExclusive(cluster, report, list, { conflict: "IST0110", several: "IST0111", plural: "Sidecars" });
};

export const checkTelemetries: Check = (cluster, report) => {
  const attached = cluster.model.telemetries.filter(({ spec }) => !spec?.targetRef && !spec?.targetRefs?.length);
  const list = attached.map((telemetry) => ({
    ...telemetry,
    labels: telemetry.spec?.selector?.matchLabels,
    field: "spec.selector.matchLabels",
  }));
  checkExclusive(cluster, report, list, { conflict: "IST0159", several: "IST0160", plural: "Telemetries" });
  for (const telemetry of cluster.model.telemetries)
    telemetry.spec?.tracing?.forEach(({ providers, disableSpanReporting }, i) => {
      if (providers?.length || disableSpanReporting || cluster.model.settings.defaultProviders?.tracing?.length) return;
      const { name, namespace } = telemetry.metadata;
      report(
        "IST0157",
        telemetry,
        `spec.tracing[${i}]`,
        `The Telemetry ${name} in namespace "${namespace}" with empty providers will be ignored.`,
        "name a provider, or set defaultProviders.tracing in MeshConfig",
      );
    });
};

type Patch = NonNullable<NonNullable<EnvoyFilter["spec"]>["configPatches"]>[number];
const routeObjects = ["ROUTE_CONFIGURATION", "HTTP_ROUTE"];
const relative = ["INSERT_BEFORE", "INSERT_AFTER", "REPLACE", "REMOVE"];

function operationCode({ applyTo = "", patch }: Patch): Code | undefined {
  const operation = patch?.operation ?? "";
  if (operation === "ADD" && routeObjects.includes(applyTo)) return "IST0153";
  if (operation === "REMOVE" && routeObjects.includes(applyTo)) return "IST0154";
  const replaceable = ["NETWORK_FILTER", "HTTP_FILTER", "VIRTUAL_HOST"];
  return operation === "REPLACE" && !replaceable.includes(applyTo) ? "IST0152" : undefined;
}

const operationText: Partial<Record<Code, string>> = {
  IST0152: "The REPLACE operation is only valid for HTTP_FILTER and NETWORK_FILTER.",
  IST0153: "The ADD operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE.",
  IST0154: "The REMOVE operation will be ignored when applyTo is set to ROUTE_CONFIGURATION, or HTTP_ROUTE.",
};

export const checkEnvoyFilters: Check = ({ model, objects }, report) => {
  const routeDependent = model.authorizationPolicies.some(({ spec }) =>
    [...(spec?.targetRefs ?? []), ...(spec?.targetRef ? [spec.targetRef] : [])].some(
      ({ kind }) => kind === "HTTPRoute",
    ),
  );
  for (const filter of objects.envoyFilters)
    filter.spec?.configPatches?.forEach((patch, i) => {
      const field = `spec.configPatches[${i}]`;
      const operation = patch.patch?.operation ?? "";
      const code = operationCode(patch);
      if (code !== undefined)
        report(code, filter, `${field}.patch.operation`, operationText[code]!, "use MERGE, or another applyTo");
      else if (relative.includes(operation) && !filter.spec?.priority) {
        const version = (patch.match as { proxy?: { proxyVersion?: string } } | undefined)?.proxy?.proxyVersion;
        const text = "This EnvoyFilter does not have a priority and has a relative patch operation";
        report(
          version ? "IST0155" : "IST0151",
          filter,
          `${field}.patch.operation`,
          version
            ? `${text} and proxyVersion set which can cause the EnvoyFilter not to be applied during an upgrade.`
            : `${text} set which can cause the EnvoyFilter not to be applied.`,
          "use INSERT_FIRST or ADD, or set spec.priority",
        );
      }
      const context = (patch.match as { context?: string } | undefined)?.context ?? "ANY";
      if (routeDependent && patch.applyTo === "HTTP_FILTER" && !context.startsWith("SIDECAR_"))
        report(
          "IST0178",
          filter,
          field,
          "Using an EnvoyFilter with route-dependent filters may cause the routing cache to be cleared after the route-dependent filter has run. This can cause a request to be routed differently than it was when the route-dependent filter was evaluated.",
          "see that the filter does not change what the route is chosen by",
        );
    });
};

export const checkServiceEntries: Check = ({ objects }, report) => {
  const byPort = new Map<string, { entry: ServiceEntry; protocol: string; field: string }[]>();
  for (const entry of objects.serviceEntries) {
    const { spec } = entry;
    const allocates = spec?.resolution !== "NONE" && spec?.hosts?.every((host) => !host.startsWith("*"));
    spec?.ports?.forEach(({ number, protocol = "" }, i) => {
      const field = `spec.ports[${i}]`;
      if (["", "TCP"].includes(protocol.toUpperCase()) && !spec.addresses?.length && !allocates)
        report(
          "IST0134",
          entry,
          field,
          "ServiceEntry addresses are required for this protocol.",
          "add addresses, or a protocol that names its host (HTTP, TLS)",
        );
      const scopes = spec.exportTo?.length ? spec.exportTo : ["*"];
      for (const host of spec.hosts ?? [])
        for (const scope of scopes) {
          const where = scope === "." ? entry.metadata.namespace : scope;
          const key = `${host}:${number} ${where}`;
          byPort.set(key, [...(byPort.get(key) ?? []), { entry, protocol: protocol.toUpperCase(), field }]);
        }
    });
  }
  for (const [key, own] of byPort) {
    const [hostPort = "", scope] = key.split(" ");
    const all = scope === "*" ? own : [...own, ...(byPort.get(`${hostPort} *`) ?? [])];
    const protocols = [...new Set(all.map(({ protocol }) => protocol))].sort();
    if (protocols.length < 2) continue;
    const names = [...new Set(all.map(({ entry }) => keyOf(entry)))].sort().join(", ");
    const colon = hostPort.lastIndexOf(":");
    const message = `Multiple ServiceEntries (${names}) define the same host "${hostPort.slice(0, colon)}" and port ${hostPort.slice(colon + 1)} with conflicting protocols (${protocols.join(", ")}).`;
    for (const { entry, field } of all)
      report("IST0177", entry, field, message, "use one protocol for the port, or one ServiceEntry for the host");
  }
};

interface WithConditions extends Subject {
  status?: { conditions?: { type?: string; status?: string; reason?: string; message?: string }[] };
}

/** What a running object says of itself. */
export const checkConditions: Check = ({ objects }, report) => {
  const lists = Object.values(objects) as (readonly WithConditions[])[];
  const own = new Set(["Pod", "Node", "Service"]);
  for (const list of lists)
    for (const object of list) {
      if (own.has(object.kind)) continue;
      // A class that nobody names harms nobody.
      const { name } = object.metadata;
      const classes = objects.kubernetesGateways.map(({ spec }) => spec?.gatewayClassName);
      if (object.kind === "GatewayClass" && !classes.includes(name)) continue;
      // Our own conditions repeat what these checks say.
      for (const { type, status, reason, message } of object.status?.conditions ?? [])
        if (status === "False" && type !== "Reconciled" && type !== "PassedAnalysis")
          report(
            "IST0171",
            object,
            "status.conditions",
            `A condition with a negative status is present: type=${type}, reason=${reason}, message=${message}.`,
          );
    }
};

const problemCodes: Readonly<Record<string, Code>> = {
  NotCarriedOut: "MB0101",
  Conflicting: "MB0102",
  ReferenceNotFound: "IST0101",
};

/** The list that statuses and Events come from. */
export const checkCarriedOut: Check = ({ model, objects }, report) => {
  for (const { object, reason, field, message } of createProblemFinder()(model, objects)) {
    // Of Istio's kinds it is said with a place and a suggestion by the checks of gateways and delegates.
    if (reason === "ReferenceNotFound" && groupOf(object.apiVersion).endsWith("istio.io")) continue;
    const text = message.startsWith(`${field}: `) ? message.slice(field.length + 2) : message;
    const code = problemCodes[reason];
    report(code ?? "MB0115", object, field, code ? text : `${reason}: ${text}`);
  }
};
