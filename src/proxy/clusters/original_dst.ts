// Endpoints of ORIGINAL_DST clusters: wherever the client wanted to go, made as they are needed and bounded.

import type { ConnectionInfo, Runtime } from "../chain.ts";
import { type ClusterSlot, Endpoint, unknownWorkload } from "./cluster.ts";

/** Destinations remembered per cluster; the oldest is forgotten. */
const destinationsMax = 512;

/** Undefined when the destination is one of our own addresses. */
export function originalDestination(
  slot: ClusterSlot,
  connection: ConnectionInfo,
  runtime: Runtime,
): Endpoint | undefined {
  if (runtime.isVirtual(connection)) return undefined;
  const address = `${connection.localAddress}:${connection.localPort}`;
  const { originals } = slot;
  let endpoint = originals.get(address);
  if (endpoint === undefined) {
    if (originals.size >= destinationsMax) {
      const [oldest] = originals;
      originals.delete(oldest![0]);
      oldest![1].retire();
    }
    const { localAddress: host, localPort: port } = connection;
    const transport = { host, port, tls: undefined, connectTarget: undefined };
    endpoint = new Endpoint(address, address, transport, unknownWorkload);
    originals.set(address, endpoint);
  }
  return endpoint;
}
