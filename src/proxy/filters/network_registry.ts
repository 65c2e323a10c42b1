// The explicit list of network filters that come before the terminal one (HTTP connection manager, TCP proxy).

import type { Any } from "@bufbuild/protobuf/wkt";
import { MeshbedError } from "../../kernel/errors.ts";
import { unpack } from "../compile/any.ts";
import type { FilterDeps, NetworkFilter, NetworkFilterFactory } from "../filter.ts";

const network = "envoy.extensions.filters.network";

const rows: readonly { config: string; load(): unknown }[] = [
  {
    // Who may connect.
    config: `${network}.rbac.v3.RBAC`,
    load: () => (require("./network_rbac.ts") as typeof import("./network_rbac.ts")).networkRbacFactory,
  },
  {
    // How many connections.
    config: `${network}.local_ratelimit.v3.LocalRateLimit`,
    load: () =>
      (require("./network_local_ratelimit.ts") as typeof import("./network_local_ratelimit.ts"))
        .networkLocalRateLimitFactory,
  },
];

/** Istio's own network filters by name; what they do is built in: telemetry, and the peer's metadata through tunnels. */
const builtIn: ReadonlySet<string> = new Set([
  "istio.stats",
  "istio.metadata_exchange",
  "envoy.filters.network.metadata_exchange",
]);

/** Undefined for a filter that is built in. */
export function compileNetworkFilter(
  name: string,
  config: Any | undefined,
  at: string,
  deps: FilterDeps,
): NetworkFilter | undefined {
  if (builtIn.has(name)) return undefined;
  const type = config?.typeUrl.slice(config.typeUrl.lastIndexOf("/") + 1);
  const row = rows.find((entry) => entry.config === type);
  if (!config || !row) throw new MeshbedError("FILTER_UNSUPPORTED", `${at}: network filter ${name} is not supported`);
  const factory = row.load() as NetworkFilterFactory;
  return factory.create(name, unpack(config, factory.config)!, deps);
}
