// Routes to their parents: listeners of Gateways, or Services of the mesh; and what is wrong with each. Pure.

import { keyOf } from "../../api/object.ts";
import { type LabelSelectorSpec, matchesLabelSelectorSpec } from "../../api/selectors.ts";
import type { HTTPRoute, KubernetesGateway, Namespace, Service, ServiceEntry } from "../../api/types.ts";
import { hostIntersection } from "../hosts.ts";
import type { Backend, ResolveBackend } from "./backends.ts";
import { convertHttp, destinationOf } from "./convert-http.ts";
import { failed, passed } from "./listeners.ts";
import type {
  Attachment,
  BackendRef,
  GatewayState,
  ListenerState,
  ParentRef,
  ParentState,
  Route,
  RouteState,
  Verdict,
} from "./types.ts";
import { gatewayGroup } from "./types.ts";

export interface RouteInputs {
  /** Ours, by "namespace/name". */
  gateways: ReadonlyMap<string, GatewayState>;
  /** All, also those of other controllers. */
  gatewayByKey: ReadonlyMap<string, KubernetesGateway>;
  namespaces: ReadonlyMap<string, Namespace>;
  services: ReadonlyMap<string, Service>;
  serviceEntries: ReadonlyMap<string, ServiceEntry>;
  resolve: ResolveBackend;
}

export function routeState(route: Route, inputs: RouteInputs): RouteState {
  const converted = convert(route, inputs.resolve);
  const { unsupported, backendProblem, nothingLeft, ...rest } = converted;
  const verdict = nothingLeft ? failed(unsupported[0]!.reason, unsupported[0]!.message) : undefined;
  return {
    route,
    ...rest,
    resolved: backendProblem
      ? failed(backendProblem.reason, backendProblem.message)
      : passed("ResolvedRefs", "All references resolved"),
    partiallyInvalid:
      unsupported.length > 0 && !nothingLeft
        ? unsupported.map(({ field, message }) => `${field}: ${message}`).join("; ")
        : undefined,
    parents: (route.spec.parentRefs ?? []).flatMap((ref) => parentState(route, ref, inputs, verdict) ?? []),
  };
}

type Convert = Omit<RouteState, "route" | "parents" | "resolved" | "partiallyInvalid"> &
  Pick<ReturnType<typeof convertHttp>, "unsupported" | "nothingLeft" | "backendProblem">;

function convert(route: Route, resolve: ResolveBackend): Convert {
  if (route.kind === "HTTPRoute" || route.kind === "GRPCRoute")
    return { ...convertHttp(route as HTTPRoute, resolve), destinations: [] };
  let backendProblem: Backend["problem"];
  const refs = (route.spec.rules?.[0] as { backendRefs?: BackendRef[] } | undefined)?.backendRefs ?? [];
  const destinations = refs.flatMap((ref) => {
    const backend = resolve(route, ref);
    backendProblem ??= backend.problem;
    const weight = ref.weight ?? 1;
    return weight > 0 ? [{ destination: destinationOf(backend), weight }] : [];
  });
  const notices = (route.spec.rules ?? []).slice(1).map((_, index) => {
    const field = `spec.rules[${index + 1}]`;
    return { field, message: `${field}: only the first rule of a ${route.kind} counts` };
  });
  return { http: [], destinations, notices, unsupported: [], nothingLeft: false, backendProblem };
}

/** Undefined: another controller's. */
function parentState(
  route: Route,
  ref: ParentRef,
  inputs: RouteInputs,
  verdict: Verdict | undefined,
): ParentState | undefined {
  const { group = gatewayGroup, kind = "Gateway", name, namespace = route.metadata.namespace ?? "default" } = ref;
  const key = `${namespace}/${name}`;
  const no = (reason: string, message: string): ParentState => ({
    ref,
    accepted: failed(reason, message),
    attachments: [],
    target: undefined,
  });
  if (group === gatewayGroup && kind === "Gateway") {
    const gateway = inputs.gateways.get(key);
    if (gateway === undefined)
      return inputs.gatewayByKey.has(key) ? undefined : no("NoMatchingParent", `Gateway ${key} does not exist`);
    return attached(route, ref, gateway, inputs, verdict);
  }
  if (route.kind === "TLSRoute")
    return no("NoMatchingParent", `a TLSRoute applies to Gateways, not to ${kind} ${name}`);
  const isService = group === "" || group === "core";
  const target =
    isService && kind === "Service"
      ? inputs.services.get(key)
      : group === "networking.istio.io" && kind === "ServiceEntry"
        ? inputs.serviceEntries.get(key)
        : undefined;
  if (target === undefined) return no("NoMatchingParent", `there is no ${kind} ${key} that routes can apply to`);
  const ports = (target.spec as { ports?: readonly { port?: number; number?: number }[] } | undefined)?.ports;
  if (ref.port !== undefined && !ports?.some((port) => (port.port ?? port.number) === ref.port))
    return no("NoMatchingParent", `${kind} ${key} has no port ${ref.port}`);
  return { ref, accepted: verdict ?? passed("Accepted", "Route was valid"), attachments: [], target };
}

/** Each step leaves fewer listeners; the one that leaves none is the reason. */
function attached(
  route: Route,
  ref: ParentRef,
  gateway: GatewayState,
  inputs: RouteInputs,
  verdict: Verdict | undefined,
): ParentState {
  const no = (reason: string, message: string): ParentState => ({
    ref,
    accepted: failed(reason, message),
    attachments: [],
    target: undefined,
  });
  const meant = gateway.listeners.filter(
    ({ spec }) => (!ref.sectionName || spec.name === ref.sectionName) && (!ref.port || spec.port === ref.port),
  );
  if (meant.length === 0)
    return no(
      "NoMatchingParent",
      `Gateway ${gateway.key} has no listener ${[ref.sectionName, ref.port].filter(Boolean).join(":")}`,
    );
  const namespace = route.metadata.namespace ?? "default";
  const allowing = meant.filter(
    (listener) =>
      listener.kinds.includes(route.kind) && admits(listener, gateway, inputs.namespaces.get(namespace), namespace),
  );
  if (allowing.length === 0) {
    const takesKind = meant.some(({ kinds }) => kinds.includes(route.kind));
    return no(
      "NotAllowedByListeners",
      takesKind
        ? `namespace ${namespace} is not allowed by the parent`
        : `kind ${route.kind} is not allowed by the parent`,
    );
  }
  const attachments = allowing.flatMap((listener): Attachment[] => {
    const hosts = hostsOf(route, listener);
    return hosts.length > 0 ? [{ gateway, listener, hosts }] : [];
  });
  if (attachments.length === 0)
    return no(
      "NoMatchingListenerHostname",
      `no hostname of the route is one of listener ${allowing.map(({ spec, hostname }) => `${spec.name} (${hostname})`).join(", ")}`,
    );
  if (verdict) return { ref, accepted: verdict, attachments: [], target: undefined };
  return { ref, accepted: passed("Accepted", "Route was valid"), attachments, target: undefined };
}

function admits(
  { spec }: ListenerState,
  { gateway }: GatewayState,
  namespace: Namespace | undefined,
  name: string,
): boolean {
  const { from = "Same", selector } = spec.allowedRoutes?.namespaces ?? {};
  if (from === "All") return true;
  if (from === "Same") return name === (gateway.metadata.namespace ?? "default");
  // Every namespace has its name as a label.
  const labels = { "kubernetes.io/metadata.name": name, ...namespace?.metadata.labels };
  return from === "Selector" && matchesLabelSelectorSpec(selector as LabelSelectorSpec | undefined, labels);
}

function hostsOf(route: Route, { hostname }: ListenerState): string[] {
  const own = (route.spec as { hostnames?: readonly string[] }).hostnames ?? [];
  if (own.length === 0 || route.kind === "TCPRoute") return [hostname ?? "*"];
  return [...new Set(own.flatMap((host) => hostIntersection(hostname ?? "*", host.toLowerCase()) ?? []))];
}

/** Oldest first, then by namespace and name: who comes first where matches are equal. */
export function byAgeAndName(a: Route, b: Route): number {
  const [x, y] = [a.metadata.creationTimestamp, b.metadata.creationTimestamp];
  if (x !== y) return x < y ? -1 : 1;
  return keyOf(a) < keyOf(b) ? -1 : 1;
}
