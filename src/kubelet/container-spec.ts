// What to start for a container: argv, environment, mounts and limits, from the pod, its image and what it refers to. Pure but for subPath folders.

import { quantityMilli, quantityValue } from "../api/quantity.ts";
import type { Pod, Service } from "../api/types.ts";
import type { ContainerSpec, IsolationMode, Mount } from "../host/types.ts";
import { escapeRegExp } from "../kernel/regexp.ts";
import { type ConfigSource, containerEnv } from "./env.ts";
import { expand } from "./expand.ts";
import { argvOf } from "./images.ts";
import type { PodFacts } from "./pod-fields.ts";
import { listenerAddress, type PodPorts, portOfContainer } from "./ports.ts";
import { clusterIpAddress, serviceEnv, visibleServices } from "./service-env.ts";
import type { ImageEntry } from "./types.ts";
import { mountsOf, type PreparedVolumes } from "./volumes.ts";

export type Container = NonNullable<Pod["spec"]>["containers"][number];

export interface ContainerInput {
  container: Container;
  /** Unique within the pod: "web-0". */
  id: string;
  image: ImageEntry;
  facts: PodFacts;
  source: ConfigSource;
  services: readonly Service[];
  volumes: PreparedVolumes;
  /** Only in ports mode. */
  ports: PodPorts | undefined;
  mode: IsolationMode;
  logPath: string;
}

const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Throws MeshbedError CONTAINER_CONFIG and what env.ts and volumes.ts throw. */
export function containerSpec(input: ContainerInput): ContainerSpec {
  const { container, image, facts, ports } = input;
  const { metadata, spec } = facts.pod;
  const known = knownVariables(input);
  const base: Record<string, string> = { PATH: path, HOME: "/root", HOSTNAME: metadata.name };
  if (input.mode === "ports") for (const name of ["PATH", "HOME"]) base[name] = process.env[name] ?? base[name]!;
  if (container.image === "auto") Object.assign(base, known); // what Istio's injection adds to a gateway
  for (const [name, value] of Object.entries(image.env ?? {})) base[name] = expand(value, (key) => known[key]);
  for (const [containerPort, port] of Object.entries(ports?.ports ?? {})) base[`PORT_${containerPort}`] = String(port);
  if (known["PORT"] !== undefined) base["PORT"] = known["PORT"];
  const visible = visibleServices(input.services, metadata.namespace ?? "default", spec?.enableServiceLinks !== false);
  const services = serviceEnv(visible, ports === undefined ? clusterIpAddress : listenerAddress(ports));
  const env = containerEnv(container, facts, input.source, services, base);
  const argv = argvOf(image, container.command, container.args).map((part) =>
    expand(part, (name) => env[name] ?? known[name]),
  );
  const mounts = mountsOf(container, input.volumes, env);
  const memory = container.resources?.limits?.["memory"];
  const cpu = container.resources?.limits?.["cpu"];
  const started: ContainerSpec = {
    id: input.id,
    argv,
    env,
    workingDir: container.workingDir || image.workingDir,
    mounts,
    logPath: input.logPath,
    memoryLimitBytes: memory === undefined ? undefined : quantityValue(memory),
    cpuLimitMillis: cpu === undefined ? undefined : quantityMilli(cpu),
  };
  return input.mode === "ports" ? withRealPaths(started) : started;
}

/** Variables a catalogue entry may use besides the container's own. */
function knownVariables({ container, facts, ports }: ContainerInput): Record<string, string> {
  const { metadata, spec } = facts.pod;
  const port = ports === undefined ? undefined : portOfContainer(container, ports);
  return {
    POD_NAME: metadata.name,
    POD_NAMESPACE: metadata.namespace ?? "default",
    POD_UID: metadata.uid,
    POD_IP: facts.podIp,
    INSTANCE_IP: facts.podIp,
    NODE_NAME: facts.nodeName,
    HOST_IP: facts.hostIp,
    SERVICE_ACCOUNT: spec?.serviceAccountName ?? "default",
    ...(port === undefined ? {} : { PORT: String(port) }),
    ...(ports === undefined ? {} : { TUNNEL_PORT: String(ports.tunnelPort) }),
  };
}

/**
 * ports mode has no mounts: where a mount path stands in the command, its arguments, the working folder or a variable's value,
 * the volume's real path is put in its place ("/data/x" of a mount at /data; not "/database").
 */
export function withRealPaths(spec: ContainerSpec): ContainerSpec {
  const { mounts } = spec;
  if (mounts.length === 0) return spec;
  const replace = (text: string) => realPath(text, mounts);
  return {
    ...spec,
    argv: spec.argv.map(replace),
    env: Object.fromEntries(Object.entries(spec.env).map(([name, value]) => [name, replace(value)])),
    workingDir: spec.workingDir === undefined ? undefined : replace(spec.workingDir),
  };
}

/** `text` with every mount path in it replaced by where the volume really is. */
export function realPath(text: string, mounts: readonly Mount[]): string {
  if (!text.includes("/")) return text;
  const targets = mounts
    .map((mount) => mount.target.replace(/\/+$/, ""))
    .filter((target) => target !== "")
    .sort((a, b) => b.length - a.length) // "/data/cache" before "/data"
    .map(escapeRegExp);
  if (targets.length === 0) return text;
  // A path starts where no path character precedes it (but "sqlite:///data" has one), and the mount's name must end there.
  const pattern = new RegExp(`(?:(?<![\\w./-])|(?<=:\\/\\/))(${targets.join("|")})(?![\\w.-])`, "g");
  return text.replace(pattern, (found) => mounts.find((m) => m.target.replace(/\/+$/, "") === found)!.source);
}
