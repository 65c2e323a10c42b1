// The gateways that manifests speak of and do not bring: a pod for every Gateway's selector, and what a Gateway of the Gateway API has deployed.

import { deploymentName, gatewayNameLabel, isDeployed, isOurs } from "../api/gateway-classes.ts";
import { groupOf, type KubeObject, type ObjectMeta } from "../api/object.ts";
import { matchesMap } from "../api/selectors.ts";
import type { Gateway, GatewayClass, KubernetesGateway } from "../api/types.ts";
import type { Manifested } from "../mesh/offline.ts";

const rootNamespace = "istio-system";
const containers = [{ name: "istio-proxy", image: "auto" }];

/** Of a pod, or of a template that pods are made from. */
type Labelled = Pick<ObjectMeta, "namespace" | "labels">;

export function assumedGateways(given: readonly KubeObject[]): { objects: Manifested[]; notes: string[] } {
  const notes: string[] = [];
  const of = <T>(kind: string, group: string): T[] =>
    given.filter((object) => object.kind === kind && groupOf(object.apiVersion) === group) as T[];
  const pods = given.flatMap(labelsOfPods);
  const assumed = gatewayPods(of<Gateway>("Gateway", "networking.istio.io"), pods, notes);
  const group = "gateway.networking.k8s.io";
  const deployed = deployedGateways(of<KubernetesGateway>("Gateway", group), of("GatewayClass", group), pods);
  return { objects: [...assumed, ...deployed], notes };
}

function labelsOfPods({ kind, metadata, ["spec"]: spec }: KubeObject): Labelled[] {
  if (kind === "Pod") return [metadata];
  const template = (spec as { template?: { metadata?: Labelled } } | undefined)?.template;
  if (template === undefined) return [];
  return [{ namespace: metadata.namespace, labels: template.metadata?.labels }] as Labelled[];
}

/** A Gateway whose selector fits no pod gets one: whoever explains routes need not have the gateway's Deployment at hand. */
function gatewayPods(gateways: readonly Gateway[], pods: readonly Labelled[], notes: string[]): Manifested[] {
  const made: Manifested[] = [];
  for (const gateway of gateways) {
    const labels = gateway.spec?.selector;
    if (labels === undefined || Object.keys(labels).length === 0) continue;
    if ([...pods, ...made.map(({ metadata }) => metadata)].some((one) => matchesMap(labels, one.labels ?? {})))
      continue;
    const name = Object.values(labels)[0]!;
    notes.push(
      `no pod carries the labels of Gateway ${gateway.metadata.namespace}/${gateway.metadata.name}; a gateway pod "${name}" is assumed`,
    );
    made.push({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: rootNamespace, labels },
      spec: { hostNetwork: true, serviceAccountName: name, containers },
    });
  }
  return made;
}

/** What the controller of the Gateway API would deploy for each Gateway. */
function deployedGateways(
  gateways: readonly KubernetesGateway[],
  classes: readonly GatewayClass[],
  pods: readonly Labelled[],
): Manifested[] {
  const made: Manifested[] = [];
  for (const gateway of gateways) {
    if (!isOurs(gateway, classes) || !isDeployed(gateway)) continue;
    const { namespace, name } = gateway.metadata;
    const labels = { ...gateway.metadata.labels, [gatewayNameLabel]: name };
    if (pods.some((pod) => pod.namespace === namespace && matchesMap(labels, pod.labels ?? {}))) continue;
    const own = deploymentName(gateway);
    const numbers = [...new Set(gateway.spec.listeners.map(({ port }) => port))];
    const ports = numbers.map((port) => ({ name: `port-${port}`, port, targetPort: port }));
    const selector = { [gatewayNameLabel]: name };
    const metadata = { name: own, ...(namespace !== undefined && { namespace }), labels };
    made.push(
      { apiVersion: "v1", kind: "Pod", metadata, spec: { serviceAccountName: own, containers } },
      { apiVersion: "v1", kind: "Service", metadata, spec: { type: "LoadBalancer", selector, ports } },
    );
  }
  return made;
}
