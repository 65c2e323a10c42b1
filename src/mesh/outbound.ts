// What the clients of one namespace share: outbound clusters, endpoints, listeners and routes, remembered piece by piece.

import type { Message } from "@bufbuild/protobuf";
import { type NamedResource, type TypeUrl, typeUrls } from "../xds/types.ts";
import type { ListenerTelemetry } from "./filters.ts";
import { type Group, groupOf, type Interner, type Memo } from "./memo.ts";
import { type AppliedPolicy, policyFor, policyOfPort } from "./policies.ts";
import { serviceClusters } from "./translate-clusters.ts";
import { serviceAssignments } from "./translate-endpoints.ts";
import { httpListener, tcpListeners } from "./translate-listeners.ts";
import { localityOf, localityText, type Place, placeLabels } from "./translate-locality.ts";
import { clientCredentialNames } from "./translate-upstream-tls.ts";
import {
  type Client,
  httpPorts,
  meshRules,
  type RuleIndex,
  rulesFor,
  sidecarRoutes,
  visibleServices,
} from "./translate-virtual-hosts.ts";
import type { MeshObjects, Model, ServiceModel, Workload } from "./types.ts";

/** One state of the objects, with what earlier states left to use again. */
export interface Pass {
  readonly objects: MeshObjects;
  readonly model: Model;
  /** The localities of all nodes as text: nodes change every few seconds, these hardly ever. */
  readonly localities: string;
  readonly memo: Memo;
  readonly interner: Interner;
}

/** Resources of one type, interned and with a version. */
export const group = ({ interner }: Pass, typeUrl: TypeUrl, messages: readonly Message[]): Group =>
  groupOf(messages.map((message) => interner.named(typeUrl, message)));

export const servicesFor = ({ memo, model, objects }: Pass, namespace: string): readonly ServiceModel[] =>
  memo.get(`services|${namespace}`, [objects.services, objects.endpointSlices], () =>
    visibleServices(model, namespace),
  );

export const rulesOf = ({ memo, model, objects }: Pass, namespace: string): RuleIndex =>
  memo.get(`rules|${namespace}`, [objects.virtualServices, model.derived], () => meshRules(model, namespace));

export function outboundClusters(pass: Pass, namespace: string): Group {
  const { memo, model, objects, interner } = pass;
  return memo.get(`clusters|${namespace}`, [objects.services, objects.destinationRules], () => {
    const resources = servicesFor(pass, namespace).flatMap((service) => {
      const policy = policyFor(model, service, namespace);
      const rules = policy.rules.map(({ object }) => object);
      const key = `cluster|${service.host}|${rules.map((rule) => rule.metadata.uid).join()}`;
      return memo.get(key, [service.service, ...rules], () =>
        serviceClusters(service, policy).map((cluster) => interner.named(typeUrls.cluster, cluster)),
      );
    });
    return groupOf(resources);
  });
}

/** What of a client its endpoints depend on. */
export type Whereabouts = Pick<Workload, "namespace" | "nodeName" | "labels">;

/** Only the assignments whose slices, pods or rules changed are made anew. No client: for plain TCP, of all services. */
export function endpoints(pass: Pass, client: Whereabouts | undefined): Group {
  const { memo, model, objects } = pass;
  const inputs = [
    objects.services,
    objects.endpointSlices,
    objects.pods,
    objects.namespaces,
    objects.destinationRules,
    objects.peerAuthentications,
    pass.localities,
  ];
  const place = client && placeOf(pass, client);
  return memo.get(client ? `endpoints|${client.namespace}|${place?.key}` : "endpoints", inputs, () => {
    const services = client ? servicesFor(pass, client.namespace) : model.services;
    const resources = services.flatMap((service) =>
      assignments(pass, service, client && policyFor(model, service, client.namespace), place),
    );
    return groupOf(resources);
  });
}

/** Clients share endpoints unless a rule asks where they are: then those of one locality do, with equal labels it names. */
function placeOf({ memo, model, objects }: Pass, { nodeName, labels: own }: Whereabouts): Place {
  const asked = memo.get("placeRules", [objects.destinationRules], () => {
    const policies = objects.destinationRules.flatMap(({ spec }) =>
      [spec?.trafficPolicy, ...(spec?.subsets ?? []).map(({ trafficPolicy }) => trafficPolicy)].flatMap((policy) =>
        policy ? [policy, ...(policy.portLevelSettings ?? [])] : [],
      ),
    );
    const labels = policies.flatMap(({ loadBalancer }) => loadBalancer?.localityLbSetting?.failoverPriority ?? []);
    const matters = policies.some((policy) => policy.outlierDetection ?? policy.loadBalancer?.localityLbSetting);
    return { matters, labels: [...new Set(labels)].sort() };
  });
  const locality = localityOf(model, nodeName);
  const labels = placeLabels(model, nodeName, own) as Readonly<Record<string, string>>;
  const values = asked.labels.map((name) => labels[name] ?? "").join("\0");
  return { key: asked.matters ? `${localityText(locality)}|${values}` : "", locality, labels };
}

function assignments(
  pass: Pass,
  service: ServiceModel,
  policy: AppliedPolicy | undefined,
  place: Place | undefined,
): readonly NamedResource[] {
  const { model, memo, interner } = pass;
  const rules = policy?.rules.map(({ object }) => object) ?? [];
  const inputs: unknown[] = [
    service.service,
    pass.objects.peerAuthentications,
    pass.localities,
    ...rules,
    ...service.slices,
  ];
  for (const slice of service.slices)
    for (const { targetRef } of slice.endpoints ?? [])
      if (targetRef?.kind === "Pod")
        inputs.push(model.workloadByKey.get(`${targetRef.namespace ?? service.namespace}/${targetRef.name}`));
  const from = rules.length > 0 ? `${rules.map(({ metadata }) => metadata.uid).join()}|${place?.key}` : "";
  return memo.get(`assignment|${service.host}|${policy !== undefined}|${from}`, inputs, () =>
    serviceAssignments(model, service, policy, place).map((message) => interner.named(typeUrls.endpoint, message)),
  );
}

/** SDS names of the credentials that DestinationRules name; only gateways are given them. */
export const clientCredentials = (pass: Pass, namespace: string): readonly string[] =>
  pass.memo.get(`credentials-of-rules|${namespace}`, [pass.objects.services, pass.objects.destinationRules], () => {
    const names = servicesFor(pass, namespace).flatMap((service) => {
      const { trafficPolicy, subsets } = policyFor(pass.model, service, namespace);
      return [undefined, ...subsets].flatMap((subset) =>
        service.ports.flatMap(({ port }) =>
          clientCredentialNames(policyOfPort(trafficPolicy, subset?.trafficPolicy, port).tls),
        ),
      );
    });
    return [...new Set(names)];
  });

/** Workloads with the same telemetry share them. */
export function outboundListeners(pass: Pass, namespace: string, telemetry: ListenerTelemetry): Group {
  const { memo, model, objects, interner } = pass;
  const inputs = [objects.services, objects.virtualServices, model.derived, objects.destinationRules];
  return memo.get(`listeners|${namespace}|${telemetry.key}`, inputs, () => {
    const services = servicesFor(pass, namespace);
    const rules = rulesOf(pass, namespace);
    const http = httpPorts(services).map((port) => interner.named(typeUrls.listener, httpListener(port, telemetry)));
    const tcp = services.flatMap((service) => {
      const ruleSet = rulesFor(rules, service.host);
      const policy = policyFor(model, service, namespace);
      const make = () =>
        tcpListeners(model, service, ruleSet, telemetry, policy).map((listener) =>
          interner.named(typeUrls.listener, listener),
        );
      // A rule's destinations may be other services: then this one alone does not tell whether anything changed.
      if (ruleSet !== undefined) return make();
      const applied = policy.rules.map(({ object }) => object);
      const key = `tcp|${service.host}|${telemetry.key}|${applied.map(({ metadata }) => metadata.uid).join()}`;
      return memo.get(key, [service.service, ...applied], make);
    });
    return groupOf([...http, ...tcp]);
  });
}

export function outboundRoutes(pass: Pass, { namespace, labels }: Pick<Workload, "namespace" | "labels">): Group {
  const { memo, model, objects } = pass;
  const client: Client = { namespace, labels, key: `${namespace}|${labelKey(pass, labels)}` };
  const inputs = [objects.services, objects.virtualServices, model.derived, objects.destinationRules];
  return memo.get(`routes|${client.key}`, inputs, () => {
    const services = servicesFor(pass, client.namespace);
    const rules = rulesOf(pass, client.namespace);
    return group(
      pass,
      typeUrls.route,
      httpPorts(services).map((port) => sidecarRoutes(model, services, rules, client, port, memo)),
    );
  });
}

/** Clients share routes unless a rule tells them apart by label: the labels rules ask for, with this client's values. */
function labelKey({ memo, model, objects }: Pass, labels: Workload["labels"]): string {
  const names = memo.get("sourceLabels", [objects.virtualServices], () => {
    const found = new Set<string>();
    for (const { http } of model.ruleSets)
      for (const { rule } of http)
        for (const match of rule.match ?? []) for (const name in match.sourceLabels) found.add(name);
    return [...found].sort();
  });
  return names.map((name) => labels[name] ?? "").join("\0");
}
