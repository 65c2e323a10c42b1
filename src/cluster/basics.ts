// What a testbed holds besides the user's own manifests: the root namespace, a storage class, and the gateway that every mesh has.

import { join } from "node:path";
import { type ManifestObject, manifestFiles } from "./manifests.ts";

const gatewayName = "istio-ingressgateway";

/** Files to apply before the user's own; without the gateway when those bring one. */
export function basicManifests(projectRoot: string, own: readonly ManifestObject[]): string[] {
  const testbed = join(projectRoot, "testbed");
  const bringsGateway = own.some(({ metadata }) => metadata.name === gatewayName);
  return [...manifestFiles(join(testbed, "embedded")), ...(bringsGateway ? [] : [join(testbed, "40-gateway.yaml")])];
}
