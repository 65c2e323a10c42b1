// Gateways and their listeners: which are ours, what is wrong with them, where their pods are. Pure.

import {
  controllerName,
  deploymentName,
  gatewayNameLabel,
  isDeployed,
  isLocalAddress,
  waypointController,
} from "../../api/gateway-classes.ts";
import { keyOf } from "../../api/object.ts";
import type { GatewayClass, KubernetesGateway, Secret, Service } from "../../api/types.ts";
import type { IsGranted } from "./grants.ts";
import {
  type GatewayState,
  gatewayGroup,
  type ListenerSpec,
  type ListenerState,
  needsCertificate,
  type Verdict,
} from "./types.ts";

export const passed = (reason: string, message = "No errors found"): Verdict => ({ ok: true, reason, message });
export const failed = (reason: string, message: string): Verdict => ({ ok: false, reason, message });

export function classStates(classes: readonly GatewayClass[]): { object: GatewayClass; accepted: Verdict }[] {
  return classes.flatMap((object) => {
    if (object.spec?.controllerName === controllerName)
      return [{ object, accepted: passed("Accepted", "Handled by Istio controller") }];
    if (object.spec?.controllerName !== waypointController) return [];
    return [{ object, accepted: failed("Unsupported", "waypoints are not carried out: pods have sidecars here") }];
  });
}

export interface GatewayInputs {
  services: readonly Service[];
  secrets: ReadonlyMap<string, Secret>;
  isGranted: IsGranted;
  clusterDomain: string;
}

export function gatewayState(gateway: KubernetesGateway, inputs: GatewayInputs): GatewayState {
  const listeners = withConflicts(gateway.spec.listeners.map((listener) => listenerState(gateway, listener, inputs)));
  const invalid = listeners.filter(({ accepted, conflicted }) => !accepted.ok || !conflicted.ok);
  const accepted =
    invalid.length > 0
      ? { ok: invalid.length < listeners.length, reason: "ListenersNotValid", message: namesOf(invalid) }
      : passed("Accepted", "Resource accepted");
  return { gateway, key: keyOf(gateway), accepted, listeners, ...placeOf(gateway, inputs) };
}

const namesOf = (listeners: readonly ListenerState[]): string =>
  `listeners not valid: ${listeners.map(({ spec }) => spec.name).join(", ")}`;

/** The kinds of routes per protocol; undefined: the protocol is not supported. */
function kindsOf({ protocol, tls }: ListenerSpec): readonly string[] | undefined {
  if (protocol === "HTTP" || protocol === "HTTPS") return ["HTTPRoute", "GRPCRoute"];
  if (protocol === "TLS") return tls?.mode === "Passthrough" ? ["TLSRoute"] : ["TLSRoute", "TCPRoute"];
  return protocol === "TCP" ? ["TCPRoute"] : undefined;
}

function listenerState(gateway: KubernetesGateway, spec: ListenerSpec, inputs: GatewayInputs): ListenerState {
  const possible = kindsOf(spec);
  const wanted = spec.allowedRoutes?.kinds ?? [];
  const fits = ({ group = gatewayGroup, kind }: { group?: string; kind: string }) =>
    group === gatewayGroup && (possible ?? []).includes(kind);
  const kinds = wanted.length > 0 ? wanted.filter(fits).map(({ kind }) => kind) : (possible ?? []);
  const misfits = wanted.filter((kind) => !fits(kind)).map(({ kind }) => kind);
  const { credentials, problem } = certificatesOf(gateway, spec, inputs);
  return {
    spec,
    hostname: spec.protocol === "TCP" ? undefined : spec.hostname?.toLowerCase() || undefined,
    kinds: [...new Set(kinds)],
    accepted:
      possible === undefined
        ? failed("UnsupportedProtocol", `protocol ${spec.protocol} is not supported: HTTP, HTTPS, TLS and TCP are`)
        : passed("Accepted"),
    conflicted: passed("NoConflicts"),
    resolved:
      misfits.length > 0 && possible !== undefined
        ? failed("InvalidRouteKinds", `${spec.protocol} listeners do not take ${misfits.join(", ")}`)
        : (problem ?? passed("ResolvedRefs")),
    credentials,
  };
}

/** Every certificate must be there for ResolvedRefs; those that are serve all the same. */
function certificatesOf(
  gateway: KubernetesGateway,
  spec: ListenerSpec,
  { secrets, isGranted }: GatewayInputs,
): { credentials: string[]; problem?: Verdict } {
  if (!needsCertificate(spec)) return { credentials: [] };
  const refs = spec.tls?.certificateRefs ?? [];
  const credentials: string[] = [];
  let problem: Verdict | undefined;
  const from = { group: gatewayGroup, kind: "Gateway", namespace: gateway.metadata.namespace ?? "default" };
  for (const { group = "", kind = "Secret", name, namespace = from.namespace } of refs) {
    const key = `${namespace}/${name}`;
    if (group !== "" || kind !== "Secret")
      problem ??= failed("InvalidCertificateRef", `${group || "core"}/${kind} holds no certificates: name a Secret`);
    else if (!isGranted(from, { group, kind, namespace, name }))
      problem ??= failed(
        "RefNotPermitted",
        `no ReferenceGrant in ${namespace} lets Gateways of ${from.namespace} name Secret ${name}`,
      );
    else if (!secrets.has(key))
      problem ??= failed("InvalidCertificateRef", `there is no Secret ${key} of type kubernetes.io/tls`);
    else if (!holdsCertificate(secrets.get(key)!))
      problem ??= failed("InvalidCertificateRef", `Secret ${key} holds no certificate and key in PEM`);
    else credentials.push(key);
  }
  if (refs.length === 0) problem = failed("InvalidCertificateRef", "tls.certificateRefs is missing: TLS ends here");
  return { credentials, ...(problem && { problem }) };
}

function holdsCertificate({ data, stringData }: Secret): boolean {
  const has = (name: string, what: RegExp): boolean => {
    const text = data?.[name] as string | undefined;
    return what.test(text === undefined ? String(stringData?.[name] ?? "") : Buffer.from(text, "base64").toString());
  };
  return has("tls.crt", /-----BEGIN CERTIFICATE-----/) && has("tls.key", /-----BEGIN [A-Z ]*PRIVATE KEY-----/);
}

/** What shares a port: plain HTTP, or TLS told apart by server name, or one TCP listener. */
const layerOf = ({ protocol }: ListenerSpec): string => (protocol === "HTTPS" ? "TLS" : protocol);

/** Listeners of one port must be told apart: all that cannot be are in conflict. */
function withConflicts(listeners: readonly ListenerState[]): ListenerState[] {
  return listeners.map((state) => {
    const others = listeners.filter((other) => other !== state && other.spec.port === state.spec.port);
    const foreign = others.find(({ spec, accepted }) => accepted.ok && layerOf(spec) !== layerOf(state.spec));
    const same = others.find(
      ({ hostname, spec }) => hostname === state.hostname && layerOf(spec) === layerOf(state.spec),
    );
    if (!state.accepted.ok || !(foreign ?? same)) return state;
    const conflicted = foreign
      ? failed(
          "ProtocolConflict",
          `listener ${foreign.spec.name} speaks ${foreign.spec.protocol} on port ${state.spec.port}`,
        )
      : failed("HostnameConflict", `listener ${same!.spec.name} has the same hostname on port ${state.spec.port}`);
    return { ...state, conflicted };
  });
}

/** Deployed for the Gateway, or (Istio) the pods of the Services that its addresses name. */
function placeOf(
  gateway: KubernetesGateway,
  { services, clusterDomain }: GatewayInputs,
): Pick<GatewayState, "services" | "pods" | "unusable"> {
  const { name, namespace = "default" } = gateway.metadata;
  if (isDeployed(gateway)) {
    const own = `${namespace}/${deploymentName(gateway)}`;
    const unusable = (gateway.spec.addresses ?? []).flatMap(({ value }) =>
      value && !isLocalAddress(value) ? [`${value} is not a loopback address of this machine (127.0.0.0/8)`] : [],
    );
    return { services: [own], pods: [{ namespace, labels: { [gatewayNameLabel]: name } }], unusable };
  }
  const keys: string[] = [];
  const pods: { namespace: string; labels: Readonly<Record<string, string>> }[] = [];
  const unusable: string[] = [];
  for (const { value = "" } of gateway.spec.addresses ?? []) {
    const short = value.endsWith(`.svc.${clusterDomain}`) ? value.slice(0, -`.svc.${clusterDomain}`.length) : value;
    const [serviceName, serviceNamespace = namespace] = short.split(".");
    const key = `${serviceNamespace}/${serviceName}`;
    const service = services.find((candidate) => keyOf(candidate) === key);
    if (service?.spec?.selector === undefined) unusable.push(`hostname "${value}" not found`);
    else {
      keys.push(key);
      pods.push({ namespace: serviceNamespace, labels: service.spec.selector });
    }
  }
  return { services: keys, pods, unusable };
}
