// What is deployed for a Gateway of the Gateway API: account, Deployment and Service, as Istio makes them. Pure.

import { deploymentName, gatewayNameLabel, isLocalAddress } from "../api/gateway-classes.ts";
import type { Draft } from "../api/object.ts";
import type { Deployment, KubernetesGateway, Service, ServiceAccount } from "../api/types.ts";
import { controllerReference } from "./ownership.ts";

const classLabel = "gateway.networking.k8s.io/gateway-class-name";
const serviceTypeAnnotation = "networking.istio.io/service-type";
/** Says what an object was made from: it is written again only when that changes, so that what users change beside it stays. */
export const madeFromAnnotation = "meshbed.io/made-from";
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration";
/** Istio's health port of gateways. */
const statusPort = 15021;

export interface GatewayObjects {
  account: Draft<ServiceAccount>;
  deployment: Draft<Deployment>;
  service: Draft<Service>;
}

/** `mode`: in `ports` mode a pod listens only on ports that it declares. */
export function gatewayObjects(gateway: KubernetesGateway, mode: "namespaces" | "ports"): GatewayObjects {
  const name = deploymentName(gateway);
  const { infrastructure } = gateway.spec;
  // Istio: without infrastructure the Gateway's own labels and annotations are passed on.
  const passed = infrastructure ?? gateway.metadata;
  const { [lastApplied]: _, ...annotations } = { ...passed.annotations } as Record<string, string>;
  const labels = { ...(passed.labels as Record<string, string>), [gatewayNameLabel]: gateway.metadata.name };
  const metadata = {
    name,
    namespace: gateway.metadata.namespace ?? "default",
    labels,
    ownerReferences: [controllerReference(gateway)],
  };
  const complete = <T extends { metadata: Partial<Draft<Service>["metadata"]> }>(object: T): T => ({
    ...object,
    metadata: {
      ...object.metadata,
      annotations: { ...annotations, [madeFromAnnotation]: Bun.hash(JSON.stringify(object)).toString(16) },
    },
  });
  return {
    account: complete({ apiVersion: "v1", kind: "ServiceAccount", metadata }),
    deployment: complete({
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata,
      spec: {
        selector: { matchLabels: { [gatewayNameLabel]: gateway.metadata.name } },
        template: podTemplate(gateway, name, labels, annotations, mode),
      },
    }),
    service: complete({ apiVersion: "v1", kind: "Service", metadata, spec: serviceSpec(gateway) }),
  };
}

type Template = NonNullable<Deployment["spec"]>["template"];

function podTemplate(
  gateway: KubernetesGateway,
  name: string,
  labels: Record<string, string>,
  annotations: Record<string, string>,
  mode: "namespaces" | "ports",
): Template {
  const listened = mode === "ports" ? servicePorts(gateway).map(({ port }) => ({ containerPort: port })) : [];
  const probe = { httpGet: { path: "/healthz/ready", port: statusPort }, periodSeconds: 1, failureThreshold: 4 };
  return {
    metadata: {
      labels: {
        ...labels,
        [classLabel]: gateway.spec.gatewayClassName,
        "service.istio.io/canonical-name": name,
        "service.istio.io/canonical-revision": "latest",
        "sidecar.istio.io/inject": "false",
      },
      annotations,
    },
    spec: {
      serviceAccountName: name,
      containers: [
        {
          name: "istio-proxy",
          image: "auto",
          ports: [...listened, { name: "status-port", containerPort: statusPort }],
          // In `ports` mode nobody knows where the status port is.
          ...(mode === "namespaces" && { readinessProbe: probe }),
        },
      ],
    },
  } as Template;
}

/** One a port, named after its first listener. */
export function servicePorts({ spec }: KubernetesGateway): { name: string; port: number; appProtocol: string }[] {
  const ports = new Map<number, { name: string; port: number; appProtocol: string }>();
  for (const { name, port, protocol } of spec.listeners)
    if (!ports.has(port))
      ports.set(port, { name: name.toLowerCase().replaceAll(".", "-"), port, appProtocol: protocol.toLowerCase() });
  return [...ports.values()];
}

function serviceSpec(gateway: KubernetesGateway): NonNullable<Service["spec"]> {
  const { metadata, spec } = gateway;
  const type = (spec.infrastructure?.annotations?.[serviceTypeAnnotation] ??
    metadata.annotations?.[serviceTypeAnnotation] ??
    "LoadBalancer") as "LoadBalancer" | "ClusterIP" | "NodePort";
  const address = spec.addresses?.find(({ value }) => value && isLocalAddress(value))?.value;
  const health = { name: "status-port", port: statusPort, appProtocol: "tcp" };
  return {
    type,
    selector: { [gatewayNameLabel]: metadata.name },
    ports: [health, ...servicePorts(gateway)].map((port) => ({
      ...port,
      targetPort: port.port,
      protocol: "TCP" as const,
    })),
    ...(type === "LoadBalancer" && address && { loadBalancerIP: address }),
  };
}
