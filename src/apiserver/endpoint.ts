// Publishes where the API server listens as the endpoints of its own Service, as kube-apiserver does.

import { isIPv4, isIPv6 } from "node:net";
import type { ApiTransport } from "../api/rest.ts";

const slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const name = "kubernetes";

/** Creates or corrects the EndpointSlice of default/kubernetes; a host that is no address pods could dial is left out. */
export async function publishEndpoint(transport: ApiTransport, host: string, port: number): Promise<void> {
  const dialable = (isIPv4(host) || isIPv6(host)) && host !== "0.0.0.0" && host !== "::";
  if (!dialable) return;
  const slice = {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name, namespace: "default", labels: { "kubernetes.io/service-name": name } },
    addressType: isIPv4(host) ? "IPv4" : "IPv6",
    endpoints: [{ addresses: [host], conditions: { ready: true } }],
    ports: [{ name: "https", port, protocol: "TCP" }],
  };
  const { status } = await transport.request({ method: "POST", path: slices, body: slice });
  if (status === 409) await transport.request({ method: "PUT", path: `${slices}/${name}`, body: slice });
}
