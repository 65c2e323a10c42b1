// Explains one request: in at a gateway or sidecar, through its routes and filters, to each endpoint that may get it, and back.

import type { RetryPolicy } from "#gen/xds/envoy/config/route/v3/route_components_pb.js";
import { type PolicyClient, rulesSelecting } from "../mesh/policies.ts";
import { sourceOf } from "../mesh/rule-source.ts";
import { audienceOf, sidecarFor } from "../mesh/sidecar-scope.ts";
import { blackHoleName } from "../mesh/translate-clusters.ts";
import { defaultRetryPolicy } from "../mesh/translate-retries.ts";
import { ClusterSlot, Endpoint, unknownWorkload } from "../proxy/clusters/cluster.ts";
import { durationMs } from "../proxy/compile/any.ts";
import { runtimeShareOf, shareOf } from "../proxy/compile/fraction.ts";
import { Head, scanRequestHead } from "../wire/http1_head.ts";
import { actionSteps } from "./action_steps.ts";
import type { Context } from "./context.ts";
import { type Asked, type Entry, enter, readAsk } from "./entry.ts";
import { faultDelayMs, type HopEnd, type HopResult, httpHop, registryOnlyReason } from "./hop.ts";
import { type ArrivalResult, arrive, type Caller } from "./inbound.ts";
import { objectOf, placeOf } from "./routes.ts";
import { clusterName, targetSteps, transportStep, usableEndpoints, workloadOf } from "./target.ts";
import { withTrustedTokens } from "./tokens.ts";
import type { Ask, Destination, Explanation, Outcome, RouteFacts, Step } from "./types.ts";

/** Throws EXPLAIN_URL, EXPLAIN_CALLER. */
export async function explain(context: Context, ask: Ask): Promise<Explanation> {
  const { objects } = context.world;
  const trusted = ask.headers.map(([name, value]) => [name, withTrustedTokens(objects, value)] as const);
  const asked = readAsk({ ...ask, headers: trusted });
  const entry = await enter(context, ask, asked);
  const found = await follow(context, asked, entry);
  const { method, url, headers } = ask;
  return {
    request: { method, url, headers, from: entry.from },
    steps: [...entry.steps, ...found.steps],
    route: found.route,
    deniedBy: found.deniedBy,
    outcomes: merged(found.outcomes),
    notes: context.world.notes,
  };
}

interface Followed {
  steps: Step[];
  outcomes: Outcome[];
  route?: RouteFacts | undefined;
  deniedBy?: string | undefined;
}

async function follow(context: Context, asked: Asked, entry: Entry): Promise<Followed> {
  if (entry.kind === "refused")
    return { steps: [], outcomes: [{ percent: 100, status: 0, flag: "-", reason: entry.reason }] };
  if (entry.kind === "direct") return direct(context, entry.address, entry.port, entry.caller, asked);
  const { dry, listener, client, caller, workload } = entry;
  const chain = entry.chain.slot.current;
  if (chain === undefined)
    return { steps: [], outcomes: [{ percent: 100, status: 0, flag: "-", reason: "the listener has no chain" }] };
  const closing = chain.networkFilters.find((filter) => filter.onConnection(client) === "close");
  if (closing)
    return {
      steps: [],
      outcomes: [{ percent: 100, status: 0, flag: "-", reason: "an AuthorizationPolicy refuses the connection" }],
    };
  const namespace = workload?.namespace ?? "default";
  const sidecar = workload && sidecarFor(context.model, workload);
  const { registryOnly } = audienceOf(context.model, namespace, sidecar);
  const policyClient = { namespace, selected: workload && rulesSelecting(context.model, workload) };
  if (chain.kind === "tcp") {
    const parts: Followed[] = [];
    for (const [index, slot] of chain.targets.entries()) {
      const percent = (chain.weights[index]! * 100) / chain.totalWeight;
      if (percent > 0)
        parts.push(
          await toCluster(context, {
            slot,
            percent,
            policyClient,
            caller,
            asked,
            head: chain.targets.length > 0 && !asked.secure ? asked.head : undefined,
            isTcp: true,
            registryOnly,
          }),
        );
    }
    const label = { label: "TCP", text: "requests are not looked at one by one: bytes go on as they come" };
    return join([{ steps: [label], outcomes: [] }, ...parts]);
  }
  const hop = await httpHop({ context, dry, listener, chain, client }, asked.head);
  const route = factsOf(context, hop);
  const steps = [...hop.steps, ...(hop.route ? actionSteps(hop, route) : [])];
  const parts: Followed[] = [{ steps, outcomes: [], route }];
  for (const end of hop.ends)
    parts.push(await onward(context, end, { policyClient, caller, asked, isTcp: false, registryOnly }, hop));
  return join(parts);
}

function join(parts: readonly Followed[]): Followed {
  return {
    steps: parts.flatMap(({ steps }) => steps),
    outcomes: parts.flatMap(({ outcomes }) => outcomes),
    route: parts.find(({ route }) => route)?.route,
    deniedBy: parts.find(({ deniedBy }) => deniedBy)?.deniedBy,
  };
}

interface Onward {
  /** Whose DestinationRules count. */
  policyClient: PolicyClient;
  caller: Caller;
  asked: Asked;
  /** The caller's side does not speak HTTP: a closed connection stays one. */
  isTcp: boolean;
  /** What the registry does not know is refused to the caller. */
  registryOnly: boolean;
}

async function onward(context: Context, end: HopEnd, how: Onward, { route }: HopResult): Promise<Followed> {
  if (end.kind === "forward") {
    const { slot, percent, head, action, exchange } = end;
    const hash = action.hash?.(
      { request: exchange.request, client: exchange.client, addResponseHeader: () => {} },
      { next: () => 0, below: () => 0 },
    );
    return toCluster(context, { ...how, slot, percent, head, hash });
  }
  const { answer, percent, reason, at, deniedBy } = end;
  const [, location] = /^location: (.*)\r$/m.exec(answer.headers) ?? [];
  const source = sourceOf(route?.metadata);
  const where = at ?? (source && placeOf(context.world, context.model, source));
  const outcome: Outcome = {
    percent,
    status: answer.status,
    flag: answer.flag,
    reason,
    ...(where !== undefined && { at: where }),
    ...(location !== undefined && { location }),
    ...(answer.body !== "" && { body: answer.body }),
  };
  return { steps: [], outcomes: [outcome], deniedBy };
}

interface ToCluster extends Onward {
  slot: ClusterSlot;
  percent: number;
  /** Undefined: bytes that are not HTTP to us. */
  head: Buffer | undefined;
  hash?: bigint | undefined;
}

/** One of the route's destinations: its cluster, its endpoints, and what each does. */
async function toCluster(context: Context, to: ToCluster): Promise<Followed> {
  const { slot, percent, policyClient, caller } = to;
  const name = clusterName(slot.name);
  const share = `${shown(percent)} → ${name ? `${name.host}${name.subset ? ` (${name.subset})` : ""}` : slot.name}`;
  if (slot.current?.balancing.policy === "ORIGINAL_DST") {
    const text = to.registryOnly
      ? "to where the caller wanted to go, as the registry knows it: a pod of a headless service, or a host of a ServiceEntry"
      : "PassthroughCluster: to where the caller wanted to go, as no service is known for it (outboundTrafficPolicy ALLOW_ANY)";
    return { steps: [{ label: "destination", text }], outcomes: [await passthrough(context, to)] };
  }
  const usable = slot.current ? usableEndpoints(slot, to.hash) : [];
  const steps = slot.current ? targetSteps(context, slot, policyClient, usable) : [];
  if (usable.length === 0) {
    const reason =
      to.isTcp && slot.name === blackHoleName
        ? registryOnlyReason
        : slot.current
          ? `no healthy endpoint for ${name?.host ?? slot.name}`
          : `no cluster ${slot.name}`;
    const outcome: Outcome = to.isTcp
      ? { percent, status: 0, flag: "UH", reason }
      : { percent, status: 503, flag: slot.current ? "UH" : "NC", reason };
    return { steps: [{ label: "split", text: share, mark: "no", steps }], outcomes: [outcome] };
  }
  const arrivals = new Map<string, { endpoints: Endpoint[]; result: ArrivalResult }>();
  for (const endpoint of usable) {
    const result = await arrive(context, endpoint, caller, to.head);
    // Pods of one workload usually answer alike: what they do is said once.
    const key =
      JSON.stringify(result.ends.map((end) => ({ ...end, head: undefined }))) +
      (endpoint.transport.connectTarget !== undefined) +
      (workloadOf(context.model, endpoint)?.about ?? "");
    const known = arrivals.get(key);
    if (known) known.endpoints.push(endpoint);
    else arrivals.set(key, { endpoints: [endpoint], result });
  }
  const outcomes: Outcome[] = [];
  let deniedBy: string | undefined;
  for (const { endpoints, result } of arrivals.values()) {
    const [endpoint] = endpoints;
    steps.push(transportStep(context, endpoint!, caller.identity.principal), ...result.steps);
    const part = (percent * endpoints.length) / usable.length;
    for (const end of result.ends) {
      const each = outcomeOf(context, to, end, (part * end.percent) / 100, endpoints);
      outcomes.push(each);
      if (end.kind !== "application") deniedBy ??= end.deniedBy;
    }
  }
  return { steps: [{ label: "split", text: share, mark: "yes", steps }], outcomes, deniedBy };
}

const shown = (percent: number): string => `${Number(percent.toFixed(percent < 1 ? 3 : 1))} %`;

function outcomeOf(
  context: Context,
  to: ToCluster,
  end: ArrivalResult["ends"][number],
  percent: number,
  endpoints: readonly Endpoint[],
): Outcome {
  const pods = endpoints.map((endpoint) => {
    const workload = workloadOf(context.model, endpoint);
    return workload ? `${workload.namespace}/${workload.name}` : endpoint.address;
  });
  if (end.kind === "closed")
    return to.isTcp
      ? { percent, status: 0, flag: "-", reason: end.reason }
      : { percent, status: 503, flag: "UC", reason: end.reason };
  if (end.kind === "refused")
    // The caller's proxy only passes the answer on: it is the destination's log that has the flag.
    return {
      percent,
      status: end.status,
      flag: end.flag,
      reason: `${end.reason}, at ${pods[0]}`,
      ...(end.at !== undefined && { at: end.at }),
      body: end.body,
    };
  const destination = destinationOf(to, end.head, pods);
  return { percent, status: undefined, flag: "-", reason: `the application answers (${pods.join(", ")})`, destination };
}

function destinationOf({ slot }: ToCluster, bytes: Buffer, pods: readonly string[]): Destination {
  const { host, subset, port } = clusterName(slot.name) ?? { host: "", subset: "", port: 0 };
  const base = { host, subset, port, cluster: slot.name, pods };
  const head = new Head();
  if (bytes.length === 0 || scanRequestHead(head, bytes, 0, bytes.length) <= 0)
    return { ...base, method: "", authority: "", path: "", headers: [] };
  const headers = Array.from(
    { length: head.count },
    (_, index) => [head.name(index).toLowerCase(), head.value(index)] as const,
  );
  const authority = headers.find(([name]) => name === "host")?.[1] ?? "";
  return { ...base, method: head.method(), authority, path: head.target(), headers };
}

/** To an address by itself: a pod called by its own address, or a server outside. */
async function direct(
  context: Context,
  address: string,
  port: number,
  caller: Caller,
  asked: Asked,
): Promise<Followed> {
  const slot = new ClusterSlot("PassthroughCluster");
  const outcome = await passthroughTo(context, address, port, {
    slot,
    percent: 100,
    policyClient: { namespace: "" },
    caller,
    asked,
    head: asked.secure ? undefined : asked.head,
    isTcp: true,
    registryOnly: false,
  });
  return { steps: [], outcomes: [outcome] };
}

const passthrough = (context: Context, to: ToCluster): Promise<Outcome> => {
  const { hostname } = to.asked.url;
  const found = context.model.workloads.find(({ ip }) => ip === hostname);
  return passthroughTo(context, found?.ip ?? "", to.asked.port, to);
};

async function passthroughTo(context: Context, address: string, port: number, to: ToCluster): Promise<Outcome> {
  const endpoint = new Endpoint(
    `${address}:${port}`,
    "",
    { host: address, port, tls: undefined, connectTarget: undefined },
    unknownWorkload,
  );
  if (workloadOf(context.model, endpoint) === undefined) {
    const destination = destinationOf(to, to.head ?? Buffer.alloc(0), [to.asked.url.host]);
    return {
      percent: to.percent,
      status: undefined,
      flag: "-",
      reason: `the server outside answers (${to.asked.url.host}), if it can be reached`,
      destination,
    };
  }
  const { ends } = await arrive(context, endpoint, to.caller, to.head);
  return outcomeOf(context, to, ends[0]!, to.percent, [endpoint]);
}

/** Equal ends of different ways count together. */
function merged(outcomes: readonly Outcome[]): Outcome[] {
  const found = new Map<string, Outcome>();
  for (const outcome of outcomes) {
    const { percent, destination, ...rest } = outcome;
    // Two ways to one cluster may change the request differently; its id is made anew each time.
    const { headers, ...place } = destination ?? { headers: [] };
    const key = JSON.stringify([rest, place, headers.filter(([name]) => name !== "x-request-id")]);
    const known = found.get(key);
    if (known) known.percent += percent;
    else found.set(key, { ...outcome });
  }
  return [...found.values()].sort((a, b) => b.percent - a.percent);
}

function factsOf({ world, model }: Context, { route, fault }: HopResult): RouteFacts | undefined {
  const source = sourceOf(route?.metadata);
  if (route === undefined) return undefined;
  const action = route.action.case === "route" ? route.action.value : undefined;
  const object = source && objectOf(model, source);
  return {
    name: route.name,
    object: object ? `${object.kind} ${object.metadata.namespace}/${object.metadata.name}` : "",
    field: source?.field ?? "",
    ...(source?.root !== undefined && { root: source.root }),
    at: source ? placeOf(world, model, source) : "",
    timeoutMs: durationMs(action?.timeout, 0),
    retries: action?.retryPolicy && retriesOf(action.retryPolicy),
    delayMs: fault ? faultDelayMs(fault) : 0,
    delayPercent: shareOf(fault?.delay?.percentage, 0) * 100,
    abortPercent: shareOf(fault?.abort?.percentage, 0) * 100,
    mirrors: (action?.requestMirrorPolicies ?? []).map(({ cluster, runtimeFraction }) => ({
      host: clusterName(cluster)?.host ?? cluster,
      percent: runtimeShareOf(runtimeFraction, 1) * 100,
    })),
  };
}

const retriesOf = (policy: RetryPolicy): RouteFacts["retries"] => ({
  attempts: policy.numRetries ?? 1,
  on: policy.retryOn,
  perTryTimeoutMs: durationMs(policy.perTryTimeout, 0),
  isDefault: policy.retryOn === defaultRetryPolicy.retryOn && policy.numRetries === defaultRetryPolicy.numRetries,
});
