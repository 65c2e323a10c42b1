// What happens to a request at the pod it was sent to: its own sidecar's authentication and authorization, then the application.

import { RBACSchema as NetworkRbacSchema } from "#gen/xds/envoy/extensions/filters/network/rbac/v3/rbac_pb.js";
import type { ConnectionInfo } from "../proxy/chain.ts";
import type { Endpoint, WorkloadIdentity } from "../proxy/clusters/cluster.ts";
import { unpack } from "../proxy/compile/any.ts";
import type { CompiledChain, CompiledListener } from "../proxy/compile/listener.ts";
import { chooseMatch } from "../proxy/routing/chain_match.ts";
import type { Context } from "./context.ts";
import type { DryNode } from "./dry_node.ts";
import { httpHop, listenerMessage } from "./hop.ts";
import { verdictSteps } from "./policies.ts";
import { workloadOf } from "./target.ts";
import type { Step } from "./types.ts";

/** Who calls, as the destination will see it. */
export interface Caller {
  identity: WorkloadIdentity;
  address: string;
}

export type ArrivalEnd =
  | { kind: "application"; percent: number; head: Buffer }
  | {
      kind: "refused";
      percent: number;
      status: number;
      flag: string;
      reason: string;
      at?: string;
      deniedBy?: string;
      body: string;
    }
  /** The connection is closed before anything is read. */
  | { kind: "closed"; percent: number; reason: string; deniedBy?: string };

export interface ArrivalResult {
  steps: Step[];
  ends: ArrivalEnd[];
}

/** `head`: as the caller's side sends it; undefined for bytes that are no HTTP here. */
export async function arrive(
  context: Context,
  endpoint: Endpoint,
  caller: Caller,
  head: Buffer | undefined,
): Promise<ArrivalResult> {
  const workload = workloadOf(context.model, endpoint);
  const application = (): ArrivalResult["ends"] => [
    { kind: "application", percent: 100, head: head ?? Buffer.alloc(0) },
  ];
  if (workload === undefined || !workload.injected) {
    const text = workload
      ? `${workload.namespace}/${workload.name} has no sidecar: no policy is asked`
      : "outside the mesh: no policy is asked";
    return { steps: [{ label: "destination", text }], ends: application() };
  }
  const dry = await context.node(workload);
  const isTunnel = endpoint.transport.connectTarget !== undefined;
  const target = endpoint.transport.connectTarget ?? endpoint.address;
  const colon = target.lastIndexOf(":");
  const client = connectionOf(target.slice(0, colon), Number(target.slice(colon + 1)), caller, isTunnel);
  const found = chainFor(dry, client, isTunnel);
  const steps: Step[] = [
    { label: "destination", text: `sidecar of ${workload.namespace}/${workload.name}, port ${client.localPort}` },
  ];
  const chain = found?.chain.slot.current;
  if (found === undefined || chain === undefined) {
    steps.push({
      label: "",
      text: `no service leads to port ${client.localPort}, and no policy is about it: passed through`,
    });
    return { steps, ends: application() };
  }
  steps.push(...networkVerdicts(context, dry, found.listener, found.chain, client));
  const closing = chain.networkFilters.find((filter) => filter.onConnection(client) === "close");
  if (closing) {
    const isStrict = steps.some(({ label, mark }) => label === "PeerAuthentication" && mark === "no");
    const reason = isStrict
      ? "PeerAuthentication STRICT: plain text is refused"
      : "an AuthorizationPolicy refuses the connection";
    return { steps, ends: [{ kind: "closed", percent: 100, reason, deniedBy: reason }] };
  }
  if (chain.kind === "tcp" || head === undefined) return { steps, ends: application() };
  const hop = await httpHop({ context, dry, listener: found.listener, chain, client }, head);
  const ends = hop.ends.map((end): ArrivalEnd => {
    if (end.kind === "forward") return { kind: "application", percent: end.percent, head: end.head };
    const { answer, percent, reason, at, deniedBy } = end;
    return {
      kind: "refused",
      percent,
      status: answer.status,
      flag: answer.flag,
      reason,
      body: answer.body,
      ...(at !== undefined && { at }),
      ...(deniedBy !== undefined && { deniedBy }),
    };
  });
  if (hop.steps.length === 0)
    steps.push({ label: "policies", text: "none is about this workload: allowed", mark: "yes" });
  return { steps: [...steps, ...hop.steps], ends };
}

const connectionOf = (
  host: string,
  port: number,
  { identity, address }: Caller,
  isTunnel: boolean,
): ConnectionInfo => ({
  remoteAddress: address,
  remotePort: 1,
  localAddress: host,
  localPort: port,
  secure: isTunnel,
  serverName: "",
  peer: { identity, authenticated: isTunnel },
});

function chainFor(
  { node }: DryNode,
  client: ConnectionInfo,
  isTunnel: boolean,
): { listener: CompiledListener; chain: CompiledChain } | undefined {
  const { localAddress, localPort } = client;
  if (isTunnel) {
    const slot = node.tunnelChain(localAddress, localPort);
    const listener = node.listeners.get("virtualInbound");
    const chain = listener?.chains.find((each) => each.slot === slot);
    return listener && chain && { listener, chain };
  }
  const listener = node.inboundListener(localAddress, localPort);
  const chain = listener && (chooseMatch(listener.chains, { ...client, hello: undefined }) ?? listener.fallback);
  return listener && chain && { listener, chain };
}

/** What the chain's network filters say: STRICT, and policies on connections. */
function networkVerdicts(
  { model, world }: Context,
  dry: DryNode,
  listener: CompiledListener,
  chain: CompiledChain,
  client: ConnectionInfo,
): Step[] {
  const message = listenerMessage(dry, listener.name);
  const index = listener.chains.indexOf(chain);
  const filters = (index < 0 ? message?.defaultFilterChain : message?.filterChains[index])?.filters ?? [];
  const subject = {
    request: undefined,
    connection: client,
    remoteAddress: client.remoteAddress,
    metadata: () => undefined,
    filterState: () => undefined,
  };
  return filters.flatMap(({ configType }): Step[] => {
    const rbac = configType.case === "typedConfig" ? unpack(configType.value, NetworkRbacSchema) : undefined;
    if (!rbac?.rules) return [];
    if (rbac.statPrefix !== "peer_authentication.") return verdictSteps(model, world, rbac.rules, subject, true);
    const isKnown = client.peer.authenticated;
    return [
      {
        label: "PeerAuthentication",
        text: isKnown ? "STRICT: the caller came by mTLS" : "STRICT: the caller came in plain text",
        mark: isKnown ? "yes" : "no",
      },
    ];
  });
}
