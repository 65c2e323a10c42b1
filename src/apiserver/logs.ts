// pods/log: passes the request on to the kubelet of the pod's node and streams back what it says.

import type { KubeObject } from "../api/object.ts";
import { messageOf } from "../kernel/errors.ts";
import { ApiFailure, badRequest, unavailable } from "./failure.ts";
import { decodeEntry, recordKey } from "./records.ts";
import type { Answer, CoreDeps, CoreRequest, KubeletAccess } from "./types.ts";

/** Query parameters of core/v1 PodLogOptions that the kubelet answers to. */
const passedOn = ["follow", "tailLines", "timestamps", "sinceSeconds", "sinceTime", "previous", "limitBytes"];
const defaultContainerAnnotation = "kubectl.kubernetes.io/default-container";
const errorTextMax = 4096;

interface ContainerStatus {
  name: string;
  state?: { waiting?: { reason?: string } };
  lastState?: { terminated?: object };
}
interface Pod extends KubeObject {
  spec: { nodeName?: string; containers?: { name: string }[]; initContainers?: { name: string }[] };
  status?: { containerStatuses?: ContainerStatus[]; initContainerStatuses?: ContainerStatus[] };
}
interface Node extends KubeObject {
  status?: {
    addresses?: { type: string; address: string }[];
    daemonEndpoints?: { kubeletEndpoint?: { Port?: number } };
  };
}

export async function podLogs(
  kubelets: KubeletAccess,
  deps: CoreDeps,
  object: KubeObject,
  request: CoreRequest,
): Promise<Answer> {
  const pod = object as Pod;
  const { name, namespace } = pod.metadata;
  const container = containerOf(pod, request.query["container"]);
  refuseWaiting(pod, container, request.query["previous"] === "true");
  const { address, port } = kubeletOf(deps, pod);
  const query = new URLSearchParams();
  for (const parameter of passedOn) {
    const value = request.query[parameter];
    if (value !== undefined && value !== "") query.set(parameter, value);
  }
  const path = `/containerLogs/${namespace}/${name}/${container}?${query}`;
  const response = await kubelets.get(address, port, path, request.signal);
  if (!response.ok || response.body === null) throw await refusal(response);
  return { kind: "stream", contentType: "text/plain", chunks: response.body };
}

function containerOf({ metadata, spec }: Pod, asked: string | undefined): string {
  const names = (spec.containers ?? []).map((each) => each.name);
  const initNames = (spec.initContainers ?? []).map((each) => each.name);
  if (asked) {
    if (names.includes(asked) || initNames.includes(asked)) return asked;
    throw badRequest(`container ${asked} is not valid for pod ${metadata.name}`);
  }
  const preferred = metadata.annotations?.[defaultContainerAnnotation];
  if (preferred !== undefined && names.includes(preferred)) return preferred;
  if (names.length === 1 && initNames.length === 0) return names[0]!;
  const init = initNames.length === 0 ? "" : ` or one of the init containers: [${initNames.join(" ")}]`;
  throw badRequest(
    `a container name must be specified for pod ${metadata.name}, choose one of: [${names.join(" ")}]${init}`,
  );
}

function refuseWaiting({ metadata, status }: Pod, container: string, previous: boolean): void {
  const statuses = [...(status?.containerStatuses ?? []), ...(status?.initContainerStatuses ?? [])];
  const current = statuses.find((each) => each.name === container);
  if (previous && current?.lastState?.terminated === undefined)
    throw badRequest(`previous terminated container "${container}" in pod "${metadata.name}" not found`);
  const waiting = current?.state?.waiting;
  // A container that waits for its next start has logs of its last run.
  if (!previous && waiting !== undefined && current?.lastState?.terminated === undefined)
    throw badRequest(`container "${container}" in pod "${metadata.name}" is waiting to start: ${waiting.reason ?? ""}`);
}

function kubeletOf({ store }: CoreDeps, { metadata, spec }: Pod): { address: string; port: number } {
  if (!spec.nodeName) throw badRequest(`pod ${metadata.name} does not have a host assigned`);
  const entry = store.get(recordKey({ group: "", plural: "nodes", namespaced: false }, undefined, spec.nodeName));
  const status = entry && (decodeEntry(entry) as Node).status;
  const address = status?.addresses?.find((each) => each.type === "InternalIP")?.address;
  const port = status?.daemonEndpoints?.kubeletEndpoint?.Port;
  if (address === undefined || port === undefined)
    throw unavailable(`node ${spec.nodeName} of pod ${metadata.name} has no kubelet address`);
  return { address, port };
}

async function refusal(response: Response): Promise<ApiFailure> {
  const text = (await response.text().catch(messageOf)).slice(0, errorTextMax).trim();
  if (response.status === 404)
    return new ApiFailure(404, "NotFound", text || "the kubelet does not know this container");
  if (response.status === 400) return badRequest(text);
  return new ApiFailure(500, "InternalError", `the kubelet answered ${response.status}: ${text}`);
}
