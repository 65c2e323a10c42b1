// A proxy in a process of its own, fed with configuration by its test: what a restart needs two of. Nothing at run time imports it.

import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { ClusterSchema } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import { ClusterLoadAssignmentSchema } from "#gen/xds/envoy/config/endpoint/v3/endpoint_pb.js";
import { ListenerSchema } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import { RouteConfigurationSchema } from "#gen/xds/envoy/config/route/v3/route_pb.js";
import { SecretSchema } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { WorkloadSchema } from "#gen/xds/meshbed/workload/v1/workload_pb.js";
import { stderrLog } from "../kernel/log.ts";
import { type Configuration, snapshotOf, startFixture } from "./fixture.ts";

const schemas = {
  listeners: ListenerSchema,
  clusters: ClusterSchema,
  routes: RouteConfigurationSchema,
  endpoints: ClusterLoadAssignmentSchema,
  secrets: SecretSchema,
  workloads: WorkloadSchema,
} as const;
type Kind = keyof typeof schemas;
const kinds = Object.keys(schemas) as Kind[];

type Encoded = Record<Kind, string[]>;

const encode = (configuration: Configuration): Encoded =>
  Object.fromEntries(
    kinds.map((kind) => [
      kind,
      (configuration[kind] ?? []).map((message) =>
        Buffer.from(toBinary(schemas[kind] as typeof ListenerSchema, message as never)).toString("base64"),
      ),
    ]),
  ) as Encoded;

const decode = (encoded: Encoded): Configuration =>
  Object.fromEntries(
    kinds.map((kind) => [
      kind,
      encoded[kind].map((text) => fromBinary(schemas[kind] as typeof ListenerSchema, Buffer.from(text, "base64"))),
    ]),
  ) as Configuration;

interface Order {
  configuration: Encoded;
  takesOver: boolean;
  drainMs: number;
}

export interface ProxyProcess {
  readonly pid: number;
  configure(configuration: Configuration): void;
  /** SIGTERM: drains, then ends. */
  drain(): void;
  /** Exit code. */
  readonly ended: Promise<number>;
  kill(): void;
}

/** Resolves when it serves. */
export async function startProxyProcess(
  configuration: Configuration,
  { takesOver = false, drainMs = 10_000 } = {},
): Promise<ProxyProcess> {
  const serves = Promise.withResolvers<void>();
  const child = Bun.spawn([process.execPath, "-e", `(await import(${JSON.stringify(import.meta.path)})).runChild()`], {
    stdio: ["ignore", "ignore", "inherit"],
    serialization: "json",
    ipc: () => serves.resolve(),
    onExit: (_child, code) => serves.reject(new Error(`the proxy's process ended with ${code}`)),
  });
  const send = (next: Configuration): void =>
    void child.send({ configuration: encode(next), takesOver, drainMs } satisfies Order);
  send(configuration);
  await serves.promise;
  return {
    pid: child.pid,
    configure: send,
    drain: () => child.kill("SIGTERM"),
    ended: child.exited,
    kill: () => child.kill("SIGKILL"),
  };
}

/** The child's side. */
export function runChild(): void {
  const nodeId = "router~127.0.0.1~gateway.test~test.svc.cluster.local";
  // The test is over, whether it said so or not.
  process.on("disconnect", () => process.exit(0));
  let started: ReturnType<typeof startFixture> | undefined;
  process.on("message", async ({ configuration, takesOver, drainMs }: Order) => {
    const next = decode(configuration);
    if (started !== undefined) {
      (await started).snapshots.set(nodeId, snapshotOf(next));
      return;
    }
    started = startFixture(next, { nodeId, takesOver, log: stderrLog("warn") });
    const { running } = await started;
    process.on("SIGTERM", async () => {
      await running.drain({ drainMs });
      await running.close();
      process.disconnect!();
    });
    await running.serving;
    process.send!("serving");
  });
}
