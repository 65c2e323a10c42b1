// Which Gateways of the Gateway API are this mesh's, and what is deployed for them: what its controllers and its translation agree on.

import type { GatewayClass, KubernetesGateway } from "./types.ts";

/** As Istio's: manifests run unchanged there. */
export const controllerName = "istio.io/gateway-controller";
export const defaultClassName = "istio";
export const waypointClassName = "istio-waypoint";
export const waypointController = "istio.io/mesh-controller";
/** On everything made for a Gateway; policies and services select its pods by it. */
export const gatewayNameLabel = "gateway.networking.k8s.io/gateway-name";

/** A class without an object counts when it is Istio's own, as in files that are only looked at. */
export function isOurs({ spec }: KubernetesGateway, classes: readonly GatewayClass[]): boolean {
  const found = classes.find(({ metadata }) => metadata.name === spec.gatewayClassName);
  return found ? found.spec?.controllerName === controllerName : spec.gatewayClassName === defaultClassName;
}

/** Unless its addresses are names of Services (Istio: IsManaged). */
export const isDeployed = ({ spec }: KubernetesGateway): boolean =>
  !spec.addresses?.some(({ type, value }) => type === "Hostname" && value);

/** What a Gateway may ask for as its address on this machine. */
export const isLocalAddress = (address: string): boolean => /^127(\.\d{1,3}){3}$/.test(address);

const nameLengthMax = 63;

/** Istio: "<gateway>-<class>"; a name that would be too long ends in a hash. */
export function deploymentName({ metadata, spec }: KubernetesGateway): string {
  const override = metadata.annotations?.["gateway.istio.io/name-override"];
  const full = override || `${metadata.name}-${spec.gatewayClassName}`;
  if (full.length <= nameLengthMax) return full;
  const hash = Bun.hash(full).toString(16).padStart(16, "0").slice(0, 8);
  return `${full.slice(0, nameLengthMax - hash.length - 1)}-${hash}`;
}
