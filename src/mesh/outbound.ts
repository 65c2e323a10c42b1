// What the clients of one namespace share: outbound clusters, endpoints, listeners and routes, remembered piece by piece.

import type { Message } from "@bufbuild/protobuf";
import type { EndpointSlice, Service, Sidecar } from "../api/types.ts";
import { getOrAdd } from "../kernel/map.ts";
import { type NamedResource, type TypeUrl, typeUrls } from "../xds/types.ts";
import type { ListenerTelemetry } from "./filters.ts";
import { isVisible } from "./hosts.ts";
import { type Group, groupOf, type Interner, joinMany, type Memo, sameItems } from "./memo.ts";
import { type AppliedPolicy, policyFor, policyOfPort, rulesSelecting } from "./policies.ts";
import { type Audience, audienceOf, sidecarFor } from "./sidecar-scope.ts";
import { serviceClusters } from "./translate-clusters.ts";
import { egressListeners, headlessSlices, sharesListeners } from "./translate-egress.ts";
import { serviceAssignments } from "./translate-endpoints.ts";
import { tcpListeners } from "./translate-listeners.ts";
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
  /** Another object when a service has come, gone or changed; not for its endpoints. */
  readonly registry: unknown;
}

/** Resources of one type, interned and with a version. */
export const group = ({ interner }: Pass, typeUrl: TypeUrl, messages: readonly Message[]): Group =>
  groupOf(messages.map((message) => interner.named(typeUrl, message)));

/** Clients with the same Sidecar are told the same, unless a DestinationRule selects one. */
export function audience(pass: Pass, workload: Workload): Audience {
  const { memo, model, objects } = pass;
  const inputs = [workload, objects.sidecars];
  const sidecar = memo.get(`sidecar|${workload.key}`, inputs, () => sidecarFor(model, workload));
  const plain = edgeAudience(pass, workload, audienceWith(pass, workload.namespace, sidecar));
  const selected = memo.get(`selecting|${workload.key}`, [workload, objects.destinationRules], () =>
    rulesSelecting(model, workload),
  );
  if (selected.length === 0) return plain;
  const key = `${plain.key}|${selected.map(({ object }) => object.metadata.uid).join()}`;
  return memo.get(`audience|${key}`, [plain, ...selected], () => ({ ...plain, key, selected }));
}

/** Gateways share what their namespace is told unless BackendTLSPolicies tell them apart. */
function edgeAudience({ memo, model }: Pass, { gateway }: Workload, plain: Audience): Audience {
  const { byService } = model.backendTls;
  if (!gateway || byService.size === 0) return plain;
  const key = `${plain.key}|edge`;
  return memo.get(`audience|${key}`, [plain, byService], () => ({ ...plain, key, backendTls: byService }));
}

/** Those of a namespace that no Sidecar is about. */
export const everybody = (pass: Pass, namespace: string): Audience => audienceWith(pass, namespace, undefined);

function audienceWith({ memo, model }: Pass, namespace: string, sidecar: Sidecar | undefined): Audience {
  const name = sidecar ? `${sidecar.metadata.namespace}/${sidecar.metadata.name}` : "";
  const inputs = [sidecar, model.settings];
  return memo.get(`audience|${namespace}|${name}`, inputs, () => audienceOf(model, namespace, sidecar));
}

/** What they are told of. The same list while neither services nor what they lead to changes. */
export function servicesFor({ memo, model, objects, registry }: Pass, to: Audience): readonly ServiceModel[] {
  // Pods are endpoints of a ServiceEntry without a slice that would say so.
  const pods = model.services.some(({ entry, selected }) => entry && selected?.length) ? objects.pods : undefined;
  const inputs = [registry, objects.endpointSlices, pods, to];
  return memo.get(`services|${to.key}`, inputs, () => visibleServices(model, to));
}

export const rulesOf = ({ memo, model, objects }: Pass, to: Audience): RuleIndex =>
  memo.get(`rules|${to.key}`, [objects.virtualServices, model.derived, to], () => meshRules(model, to));

/** With what the rules they are told of lead to (Istio infers those imports from VirtualServices). */
function destinationsFor(pass: Pass, to: Audience): readonly ServiceModel[] {
  const services = servicesFor(pass, to);
  if (to.scope === undefined) return services;
  const { memo, model } = pass;
  const rules = rulesOf(pass, to);
  return memo.get(`destinations|${to.key}`, [services, rules], () => {
    const known = new Set(services.map(({ host }) => host));
    const hosts = new Set(rules.all.flatMap(({ destinations }) => destinations));
    const led = [...hosts].flatMap((host) => (known.has(host) ? [] : (model.serviceByHost.get(host) ?? [])));
    return [...services, ...led.filter(({ exportTo }) => isVisible(exportTo, to.namespace))];
  });
}

export function outboundClusters(pass: Pass, to: Audience): Group {
  const { memo, model, objects, interner } = pass;
  const rulesTold = to.scope && rulesOf(pass, to);
  return memo.get(`clusters|${to.key}`, [pass.registry, objects.destinationRules, rulesTold, to], () => {
    const resources = destinationsFor(pass, to).flatMap((service) => {
      const policy = policyFor(model, service, to);
      const rules = policy.rules.map(({ object }) => object);
      const key = `cluster|${service.namespace}/${service.host}|${rules.map((rule) => rule.metadata.uid).join()}`;
      return memo.get(key, [service.service, service.selected, ...rules], () =>
        serviceClusters(model, service, policy).map((cluster) => interner.named(typeUrls.cluster, cluster)),
      );
    });
    return groupOf(resources);
  });
}

/** What of a client its endpoints depend on. */
export type Whereabouts = Pick<Workload, "namespace" | "nodeName" | "labels">;

/** Only the assignments whose slices, pods or rules changed are made anew. No client: for plain TCP, of all services. */
export function endpoints(pass: Pass, client: Whereabouts | undefined, to: Audience | undefined): Group {
  const { memo, model, objects } = pass;
  const inputs = [
    to,
    to?.scope && rulesOf(pass, to),
    pass.registry,
    objects.endpointSlices,
    objects.pods,
    objects.namespaces,
    objects.destinationRules,
    objects.peerAuthentications,
    pass.localities,
  ];
  const place = client && placeOf(pass, client);
  const key = to ? `endpoints|${to.key}|${place?.key}` : "endpoints";
  return memo.get(key, inputs, () => {
    const services = to ? destinationsFor(pass, to) : model.services.filter(({ entry }) => entry === undefined);
    // While these last, a service whose slices and pods are the same objects is not looked at further.
    const lasting = [
      to,
      to?.scope && rulesOf(pass, to),
      pass.registry,
      objects.destinationRules,
      objects.peerAuthentications,
      pass.localities,
    ];
    const known = memo.get(`${key}|services`, lasting, () => new Map<Service, Assigned>());
    return joinMany(
      services.map((service) => {
        const before = known.get(service.service);
        if (before && isSame(before, service, model)) return before.group;
        const group = groupOf(assignments(pass, service, to && policyFor(model, service, to), place));
        const { selected, slices } = service;
        known.set(service.service, { selected, slices, workloads: workloadsOf(service, model), group });
        return group;
      }),
    );
  });
}

/** The load assignments of a service, and what they were made of. */
interface Assigned extends Pick<ServiceModel, "selected" | "slices"> {
  workloads: readonly (Workload | undefined)[];
  group: Group;
}

const podKeys = new WeakMap<EndpointSlice, readonly string[]>();

/** "namespace/name" of a slice's pods. */
const podKeysOf = (slice: EndpointSlice): readonly string[] =>
  getOrAdd(podKeys, slice, () =>
    (slice.endpoints ?? []).flatMap(({ targetRef: to }) =>
      to?.kind === "Pod" ? `${to.namespace ?? slice.metadata.namespace ?? "default"}/${to.name}` : [],
    ),
  );

const workloadsOf = ({ slices }: ServiceModel, { workloadByKey }: Model): (Workload | undefined)[] =>
  slices.flatMap((slice) => podKeysOf(slice).map((key) => workloadByKey.get(key)));

function isSame(before: Assigned, { selected, slices }: ServiceModel, { workloadByKey }: Model): boolean {
  if (before.selected !== selected || !sameItems(before.slices, slices)) return false;
  let at = 0;
  for (const slice of slices)
    for (const key of podKeysOf(slice)) if (before.workloads[at++] !== workloadByKey.get(key)) return false;
  return true;
}

/** Clients share endpoints unless a rule asks where they are: then those of one locality do, with equal labels it names. */
function placeOf({ memo, model, objects }: Pass, { nodeName, labels: own }: Whereabouts): Place {
  const asked = memo.get("placeRules", [objects.destinationRules], () => {
    const policies = objects.destinationRules.flatMap(({ spec }) =>
      [spec?.trafficPolicy, ...(spec?.subsets ?? []).map(({ trafficPolicy }) => trafficPolicy)].flatMap((policy) =>
        policy ? [policy, ...(policy.portLevelSettings ?? [])] : [],
      ),
    );
    const { localityLbSetting: meshWide } = model.settings;
    const settings = [meshWide, ...policies.map(({ loadBalancer }) => loadBalancer?.localityLbSetting)];
    const labels = settings.flatMap((setting) => setting?.failoverPriority ?? []);
    const matters = settings.some(Boolean) || policies.some(({ outlierDetection }) => outlierDetection);
    return { matters, labels: [...new Set(labels)].sort() };
  });
  const locality = localityOf(model, nodeName, own);
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
    service.selected,
    pass.objects.peerAuthentications,
    pass.localities,
    ...rules,
    ...service.slices,
    ...workloadsOf(service, model),
  ];
  const isPlaced = rules.length > 0 || model.settings.localityLbSetting !== undefined;
  const from = isPlaced ? `${rules.map(({ metadata }) => metadata.uid).join()}|${place?.key}` : "";
  return memo.get(`assignment|${service.namespace}/${service.host}|${policy !== undefined}|${from}`, inputs, () =>
    serviceAssignments(model, service, policy, place).map((message) => interner.named(typeUrls.endpoint, message)),
  );
}

/** SDS names of the credentials that DestinationRules name: all for gateways, those of rules that select them for sidecars. */
export const clientCredentials = (pass: Pass, to: Audience, isGateway: boolean): readonly string[] =>
  pass.memo.get(
    `credentials-of-rules|${isGateway}|${to.key}`,
    [pass.registry, pass.objects.destinationRules, to],
    () => {
      const names = servicesFor(pass, to).flatMap((service) => {
        const { rules, trafficPolicy, subsets } = policyFor(pass.model, service, to);
        if (!isGateway && !rules.some((rule) => to.selected?.includes(rule))) return [];
        return [undefined, ...subsets].flatMap((subset) =>
          service.ports.flatMap(({ port }) =>
            clientCredentialNames(policyOfPort(trafficPolicy, subset?.trafficPolicy, port).tls),
          ),
        );
      });
      return [...new Set(names)];
    },
  );

/** Workloads with the same telemetry share them, unless a rule tells them apart by label. */
export function outboundListeners(
  pass: Pass,
  to: Audience,
  labels: Workload["labels"],
  telemetry: ListenerTelemetry,
): Group {
  const { memo, model, objects, interner } = pass;
  // Only where nothing else lets them pass are pods of headless services listened for one by one.
  const slices = to.registryOnly ? headlessSlices(servicesFor(pass, to)) : [];
  const inputs = [pass.registry, objects.virtualServices, model.derived, objects.destinationRules, to, ...slices];
  const client = clientOf(pass, to, labels);
  return memo.get(`listeners|${client.key}|${telemetry.key}`, inputs, () => {
    const services = servicesFor(pass, to);
    const rules = rulesOf(pass, to);
    const context = { model, rules, client, telemetry };
    const shared = egressListeners(context, services, to).map((one) => interner.named(typeUrls.listener, one));
    const own = services.flatMap((service) => {
      if (sharesListeners(service)) return [];
      const make = () =>
        tcpListeners(context, service, to).map((listener) => interner.named(typeUrls.listener, listener));
      // A rule's destinations may be other services: then this one alone does not tell whether anything changed.
      if (rulesFor(rules, service.host) !== undefined) return make();
      const applied = policyFor(model, service, to).rules.map(({ object }) => object);
      const uids = applied.map(({ metadata }) => metadata.uid).join();
      const key = `tcp|${service.host}|${telemetry.key}|${to.scope ? to.key : ""}|${uids}`;
      return memo.get(key, [service.service, to.scope, ...applied], make);
    });
    return groupOf([...shared, ...own]);
  });
}

const clientOf = (pass: Pass, { namespace, key, selected }: Audience, labels: Workload["labels"]): Client => ({
  namespace,
  selected,
  labels,
  key: `${key}|${labelKey(pass, labels)}`,
});

export function outboundRoutes(pass: Pass, to: Audience, { labels }: Pick<Workload, "labels">): Group {
  const { memo, model, objects } = pass;
  const client = clientOf(pass, to, labels);
  const inputs = [pass.registry, objects.virtualServices, model.derived, objects.destinationRules, to];
  return memo.get(`routes|${client.key}`, inputs, () => {
    const services = servicesFor(pass, to);
    const rules = rulesOf(pass, to);
    return group(
      pass,
      typeUrls.route,
      httpPorts(services, to).map((port) => sidecarRoutes(model, services, rules, client, port, memo, to)),
    );
  });
}

/** Clients share routes unless a rule tells them apart by label: the labels rules ask for, with this client's values. */
function labelKey({ memo, model, objects }: Pass, labels: Workload["labels"]): string {
  const names = memo.get("sourceLabels", [objects.virtualServices], () => {
    const found = new Set<string>();
    for (const { http, object } of model.ruleSets) {
      const streams = [...(object.spec?.tls ?? []), ...(object.spec?.tcp ?? [])];
      for (const { match = [] } of [...http.map(({ rule }) => rule), ...streams])
        for (const { sourceLabels } of match) for (const name in sourceLabels) found.add(name);
    }
    return [...found].sort();
  });
  return names.map((name) => labels[name] ?? "").join("\0");
}
