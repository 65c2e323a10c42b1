// Prepares one run of a container: image, ports, specification, runner; and says what a failure to start means for its state.

import type { Pod } from "../api/types.ts";
import { podGatewayOfNode } from "../host/addresses.ts";
import { MeshbedError, messageOf } from "../kernel/errors.ts";
import type { ConfigLease } from "./config-objects.ts";
import { ContainerRunner, prepareLog, type RunnerReports } from "./container-runner.ts";
import { type Container, containerSpec, realPath } from "./container-spec.ts";
import type { ContainerEvent } from "./container-state.ts";
import { resolveImage } from "./images.ts";
import { factsOf, type NodeContext, type PodSetup, podLogDir, publishPorts } from "./pod-setup.ts";
import { resolvePort } from "./ports.ts";
import type { PodEvents } from "./types.ts";

const configRetryMs = 2_000;
/** ErrImagePull is shown this long before it becomes ImagePullBackOff. */
const pullErrorShownMs = 1_000;

export interface RunInput {
  context: NodeContext;
  pod: Pod;
  container: Container;
  /** From 0: the run's number, in its id and the name of its log. */
  attempt: number;
  setup: PodSetup;
  lease: ConfigLease;
  events: PodEvents;
}

export const containerIdOf = (pod: Pod, container: string, attempt: number): string =>
  `${pod.metadata.uid}/${container}-${attempt}`;

/** Throws IMAGE_UNKNOWN, CONTAINER_CONFIG, FIELD_UNKNOWN, QUANTITY_INVALID, NO_FREE_PORT. */
export async function prepareRun(input: RunInput, reports: RunnerReports): Promise<ContainerRunner> {
  const { context, pod, container, attempt, setup, events } = input;
  const { options } = context;
  const { name } = container;
  const image = resolveImage(options.images, container.image ?? "");
  if (setup.ports !== undefined) setup.ports = await publishPorts(context, pod, setup.ports);
  const spec = containerSpec({
    container,
    id: `${name}-${attempt}`,
    image,
    facts: factsOf(context, pod, setup.ip),
    source: input.lease,
    services: context.services.list(),
    volumes: setup.volumes,
    ports: setup.ports,
    mode: options.runtime.mode,
    logPath: prepareLog(podLogDir(context, pod), name, attempt),
  });
  events("Normal", "Pulled", `Container image "${container.image}" already present on machine`, name);
  events("Normal", "Created", `Created container: ${name}`, name);
  // ports mode mounts nothing: probes and hooks have to be told the real paths, too.
  const argvOf = (argv: readonly string[]) =>
    setup.ports === undefined ? argv : argv.map((part) => realPath(part, spec.mounts));
  return new ContainerRunner({
    sandbox: setup.sandbox,
    spec,
    container,
    containerId: containerIdOf(pod, name, attempt),
    target: {
      host: setup.ip,
      // A pod with a network of its own is behind its node's proxy, which the kubelet's probes do not go through.
      ...(options.runtime.mode === "namespaces" &&
        setup.ip !== options.nodeIp && { from: podGatewayOfNode(options.nodeIp) }),
      portOf: (port) => resolvePort(pod, port, setup.ports),
      exec: (argv, timeoutMs) => setup.sandbox.exec(spec.id, argvOf(argv), timeoutMs),
      clock: options.clock,
    },
    events,
    metrics: context.metrics,
    clock: options.clock,
    reports,
  });
}

/** starting → waiting (image or configuration) or exited (the runtime refused). Tells users why. */
export function startFailure(
  { context, pod, container, attempt, events }: RunInput,
  error: unknown,
  startedAtMs: number,
  backOffMs: number,
): ContainerEvent {
  context.metrics.failedStarts.value++;
  const nowMs = context.options.clock.now();
  const { name, image } = container;
  const code = error instanceof MeshbedError ? error.code : "";
  const message = messageOf(error);
  if (code === "IMAGE_UNKNOWN") {
    events("Warning", "Failed", `Failed to pull image "${image}": ${message}`, name);
    events("Warning", "Failed", "Error: ErrImagePull", name);
    return { kind: "startFailed", reason: "ErrImagePull", message, retryAtMs: nowMs + pullErrorShownMs, backOffMs };
  }
  events("Warning", "Failed", `Error: ${message}`, name);
  if (["CONTAINER_CONFIG", "FIELD_UNKNOWN", "QUANTITY_INVALID"].includes(code)) {
    const reason = "CreateContainerConfigError";
    return { kind: "startFailed", reason, message, retryAtMs: nowMs + configRetryMs, backOffMs };
  }
  const containerId = containerIdOf(pod, name, attempt);
  return {
    kind: "exited",
    exit: { code: 128, reason: "StartError", message, startedAtMs, finishedAtMs: nowMs, containerId },
  };
}
