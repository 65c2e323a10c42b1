// Statuses of the Gateway API, from manifests alone: reasons, generations, what others wrote, and nothing to write when nothing changed.

import { expect, test } from "bun:test";
import type { KubeObject } from "../../api/object.ts";
import { stored } from "../offline.ts";
import { createTranslator, noObjects } from "../translator.ts";
import type { MeshObjects } from "../types.ts";
import { statusChanges } from "./status.ts";

const lists: Readonly<Record<string, keyof MeshObjects>> = {
  GatewayClass: "gatewayClasses",
  Gateway: "kubernetesGateways",
  HTTPRoute: "httpRoutes",
  TCPRoute: "tcpRoutes",
  ReferenceGrant: "referenceGrants",
  Service: "services",
  Pod: "pods",
  Namespace: "namespaces",
  Secret: "secrets",
  ConfigMap: "caBundles",
  BackendTLSPolicy: "backendTlsPolicies",
};
const of = (kind: string, name: string, spec: object, more: object = {}): KubeObject =>
  stored({
    apiVersion: "gateway.networking.k8s.io/v1",
    kind,
    metadata: { name, ...(more as { metadata?: object }).metadata },
    spec,
    ...("status" in more && { status: more.status }),
  });

type Written = Record<string, { status: Record<string, unknown>; object: object }>;

/** What would be written, by "Kind/name". */
function written(objects: readonly KubeObject[], now = "2026-01-01T00:00:00Z"): Written {
  const all = structuredClone(noObjects) as unknown as Record<string, KubeObject[]>;
  for (const object of objects) all[lists[object.kind]!]!.push(object);
  const translator = createTranslator({
    config: {
      mode: "namespaces",
      clusterDomain: "cluster.local",
      trustDomain: "cluster.local",
      rootNamespace: "istio-system",
    },
    rootsPem: "",
    certificateOf: () => undefined,
  });
  translator.update(all as unknown as MeshObjects);
  const changes = statusChanges(translator.model, all["services"] as never, now);
  return Object.fromEntries(
    changes.map(({ resource, object, status }) => [
      `${resource.kind}/${object.metadata.name}`,
      { status: status as never, object },
    ]),
  );
}
const taken = (objects: readonly KubeObject[], changes: Written): KubeObject[] =>
  objects.map((object) => ({
    ...object,
    ...(changes[`${object.kind}/${object.metadata.name}`] && {
      status: changes[`${object.kind}/${object.metadata.name}`]!.status,
    }),
  }));

interface Conditions {
  conditions: {
    type: string;
    status: string;
    reason: string;
    observedGeneration?: number;
    lastTransitionTime?: string;
  }[];
}
const texts = (part: unknown): string[] =>
  (part as Conditions).conditions.map(({ type, status, reason }) => `${type}=${status}/${reason}`);

const gatewayClass = of("GatewayClass", "istio", { controllerName: "istio.io/gateway-controller" });
const gateway = (...listeners: object[]) => of("Gateway", "shop", { gatewayClassName: "istio", listeners });
const http = { name: "http", port: 80, protocol: "HTTP" };
const service = (status: object) =>
  of("Service", "shop-istio", { type: "LoadBalancer", clusterIP: "10.96.0.9", ports: [{ port: 80 }] }, { status });
const pod = (ready: string) =>
  of(
    "Pod",
    "shop-istio-1",
    { containers: [{ name: "istio-proxy", image: "auto" }] },
    {
      metadata: { labels: { "gateway.networking.k8s.io/gateway-name": "shop" } },
      status: { phase: "Running", podIP: "10.244.1.240", conditions: [{ type: "Ready", status: ready }] },
    },
  );
const address = { loadBalancer: { ingress: [{ ip: "127.96.0.9" }] } };

test("a Gateway is programmed once it has an address and a ready pod", () => {
  const programmed = (...objects: KubeObject[]) =>
    texts(written([gatewayClass, gateway(http), ...objects])["Gateway/shop"]!.status)[1];
  expect(programmed()).toBe("Programmed=False/AddressNotAssigned");
  expect(programmed(service({}))).toBe("Programmed=False/AddressNotAssigned");
  expect(programmed(service(address))).toBe("Programmed=False/Pending");
  expect(programmed(service(address), pod("False"))).toBe("Programmed=False/Pending");
  expect(programmed(service(address), pod("True"))).toBe("Programmed=True/Programmed");
  const { status } = written([gatewayClass, gateway(http), service(address), pod("True")])["Gateway/shop"]!;
  expect(status["addresses"]).toEqual([{ type: "IPAddress", value: "127.96.0.9" }]);
});

test("listeners say what is wrong with them, each with its reason", () => {
  const listeners = [
    http,
    { name: "udp", port: 53, protocol: "UDP" },
    {
      name: "kinds",
      port: 81,
      protocol: "HTTP",
      allowedRoutes: { kinds: [{ kind: "TCPRoute" }, { kind: "HTTPRoute" }] },
    },
    { name: "bare", port: 443, protocol: "HTTPS" },
    { name: "missing", port: 444, protocol: "HTTPS", tls: { certificateRefs: [{ name: "none" }] } },
    { name: "foreign", port: 445, protocol: "HTTPS", tls: { certificateRefs: [{ name: "none", namespace: "other" }] } },
    { name: "first", port: 90, protocol: "HTTP", hostname: "a.test" },
    { name: "again", port: 90, protocol: "HTTP", hostname: "A.test" },
    { name: "tcp", port: 91, protocol: "TCP" },
    { name: "beside", port: 91, protocol: "HTTP" },
  ];
  const { status } = written([gatewayClass, gateway(...listeners)])["Gateway/shop"]!;
  const bad = (status["listeners"] as (Conditions & { name: string })[]).map((listener) =>
    [
      listener.name,
      ...texts(listener).filter((text) => /^(Accepted|ResolvedRefs)=False|^Conflicted=True/.test(text)),
    ].join(" "),
  );
  expect(bad).toEqual([
    "http",
    "udp Accepted=False/UnsupportedProtocol",
    "kinds ResolvedRefs=False/InvalidRouteKinds",
    "bare ResolvedRefs=False/InvalidCertificateRef",
    "missing ResolvedRefs=False/InvalidCertificateRef",
    "foreign ResolvedRefs=False/RefNotPermitted",
    "first Conflicted=True/HostnameConflict",
    "again Conflicted=True/HostnameConflict",
    "tcp Conflicted=True/ProtocolConflict",
    "beside Conflicted=True/ProtocolConflict",
  ]);
  expect(texts(status)[0]).toBe("Accepted=True/ListenersNotValid");
  expect(
    (status["listeners"] as { supportedKinds: { kind: string }[] }[])[2]!.supportedKinds.map(({ kind }) => kind),
  ).toEqual(["HTTPRoute"]);
});

const route = (name: string, parentRefs: object[], more: object = {}, meta: object = {}) =>
  of("HTTPRoute", name, { parentRefs, ...more }, { metadata: meta });

test("what is written is not written again, keeps its times, and leaves what others wrote", () => {
  const foreign = { parentRef: { name: "theirs" }, controllerName: "example.com/other", conditions: [] };
  const objects = [
    gatewayClass,
    gateway(http),
    { ...route("r", [{ name: "shop" }]), status: { parents: [foreign] } },
    route("of-others", [{ name: "other", kind: "Thing", group: "example.com" }]),
  ];
  const first = written(objects);
  expect((first["HTTPRoute/r"]!.status["parents"] as unknown[])[1]).toEqual(foreign);
  const after = taken(objects, first);
  expect(Object.keys(written(after, "2026-02-02T00:00:00Z"))).toEqual([]);

  const changed = after.map((object) =>
    object.metadata.name === "r" ? { ...object, metadata: { ...object.metadata, generation: 2 } } : object,
  );
  const second = written(changed, "2026-02-02T00:00:00Z");
  expect(Object.keys(second)).toEqual(["HTTPRoute/r"]);
  const [own] = second["HTTPRoute/r"]!.status["parents"] as Conditions[];
  for (const condition of own!.conditions) {
    expect(condition.observedGeneration).toBe(2);
    expect(condition.lastTransitionTime).toBe("2026-01-01T00:00:00Z");
  }
});

test("routes count once per listener, whatever part of them can be carried out", () => {
  const extension = { type: "ExtensionRef", extensionRef: { group: "example.com", kind: "Thing", name: "x" } };
  const objects = [
    gatewayClass,
    gateway(http, { ...http, name: "second", port: 81 }),
    route("both", [{ name: "shop" }, { name: "shop", sectionName: "http" }]),
    route("one", [{ name: "shop", port: 81 }], { rules: [{ backendRefs: [{ name: "none", port: 1 }] }] }),
    route("partly", [{ name: "shop" }], { rules: [{}, { filters: [extension] }] }),
    route("nothing", [{ name: "shop" }], { rules: [{ filters: [extension] }] }),
    route("foreign", [{ name: "shop", namespace: "default" }], {}, { namespace: "other" }),
  ];
  const changes = written(objects);
  const listeners = changes["Gateway/shop"]!.status["listeners"] as { attachedRoutes: number }[];
  expect(listeners.map(({ attachedRoutes }) => attachedRoutes)).toEqual([2, 3]);
  const of = (name: string) => texts((changes[`HTTPRoute/${name}`]!.status["parents"] as unknown[])[0]);
  expect(of("one")).toEqual(["Accepted=True/Accepted", "ResolvedRefs=False/BackendNotFound"]);
  expect(of("partly")).toEqual([
    "Accepted=True/Accepted",
    "ResolvedRefs=True/ResolvedRefs",
    "PartiallyInvalid=True/UnsupportedValue",
  ]);
  expect(of("nothing")[0]).toBe("Accepted=False/UnsupportedValue");
  expect(of("foreign")[0]).toBe("Accepted=False/NotAllowedByListeners");
});

test("classes of other controllers are left alone; waypoints are said not to be carried out", () => {
  const waypoint = of("GatewayClass", "istio-waypoint", { controllerName: "istio.io/mesh-controller" });
  const theirs = of("GatewayClass", "theirs", { controllerName: "example.com/other" });
  const gatewayOfTheirs = of("Gateway", "their-gateway", { gatewayClassName: "theirs", listeners: [http] });
  const changes = written([gatewayClass, waypoint, theirs, gatewayOfTheirs, route("r", [{ name: "their-gateway" }])]);
  expect(Object.keys(changes).sort()).toEqual(["GatewayClass/istio", "GatewayClass/istio-waypoint"]);
  expect(texts(changes["GatewayClass/istio"]!.status)).toEqual(["Accepted=True/Accepted"]);
  expect(texts(changes["GatewayClass/istio-waypoint"]!.status)).toEqual(["Accepted=False/Unsupported"]);
});

test("a BackendTLSPolicy says per Gateway whether its authorities are there, and which older policy has its Service", () => {
  const backend = of("Service", "web", { ports: [{ name: "https", port: 443 }] });
  const route = of("HTTPRoute", "web", {
    parentRefs: [{ name: "shop" }],
    rules: [{ backendRefs: [{ name: "web", port: 443 }] }],
  });
  const policy = (name: string, validation: object, target = "web") =>
    of("BackendTLSPolicy", name, {
      targetRefs: [{ group: "", kind: "Service", name: target }],
      validation: { hostname: "web.test", ...validation },
    });
  const refs = (...names: string[]) => ({
    caCertificateRefs: names.map((name) => ({ group: "", kind: "ConfigMap", name })),
  });
  const ca = { ...of("ConfigMap", "ca", {}), data: { "ca.crt": "-----BEGIN CERTIFICATE-----" } };
  const empty = { ...of("ConfigMap", "empty", {}), data: {} };
  const base = [gatewayClass, gateway(http), backend, route, ca, empty];
  const ancestors = (...policies: KubeObject[]) => {
    const changes = written([...base, ...policies]);
    return policies.map(({ metadata }) => {
      const status = changes[`BackendTLSPolicy/${metadata.name}`]?.status as { ancestors: object[] } | undefined;
      return status?.ancestors.map((one) => texts(one));
    });
  };
  const good = ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"];
  expect(ancestors(policy("a", refs("ca")))).toEqual([[good]]);
  expect(ancestors(policy("a", { wellKnownCACertificates: "System" }))).toEqual([[good]]);
  const unresolved = "ResolvedRefs=False/InvalidCACertificateRef";
  expect(ancestors(policy("a", refs("ca", "missing")))).toEqual([[["Accepted=True/Accepted", unresolved]]]);
  for (const none of ["missing", "empty"])
    expect(ancestors(policy("a", refs(none)))).toEqual([[["Accepted=False/NoValidCACertificate", unresolved]]]);
  const otherKind = { caCertificateRefs: [{ group: "", kind: "Service", name: "web" }] };
  expect(ancestors(policy("a", otherKind))).toEqual([
    [["Accepted=False/NoValidCACertificate", "ResolvedRefs=False/InvalidKind"]],
  ]);
  expect(ancestors(policy("a", refs("ca")), policy("b", refs("ca")))).toEqual([
    [good],
    [["Accepted=False/Conflicted", "ResolvedRefs=True/ResolvedRefs"]],
  ]);
  const misnamed = policy("a", refs("ca"));
  (misnamed["spec"] as { targetRefs: { sectionName?: string }[] }).targetRefs[0]!.sectionName = "http";
  expect(ancestors(misnamed)).toEqual([[["Accepted=False/TargetNotFound", "ResolvedRefs=True/ResolvedRefs"]]]);
  // No Gateway leads there: nobody to speak for.
  expect(ancestors(policy("a", refs("ca"), "other"))).toEqual([undefined]);
  const settled = taken([...base, policy("a", refs("ca"))], written([...base, policy("a", refs("ca"))]));
  expect(Object.keys(written(settled)).filter((key) => key.startsWith("BackendTLSPolicy"))).toEqual([]);
});
