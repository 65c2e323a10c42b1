// BackendTLSPolicies → how gateways connect to the ports of Services by TLS, and what became of each policy. Pure.

import { keyOf } from "../../api/object.ts";
import type { BackendTLSPolicy, ConfigMap, Secret } from "../../api/types.ts";
import type { MeshObjects, Policy, TrafficPolicy } from "../types.ts";
import { failed, passed } from "./listeners.ts";
import type { Verdict } from "./types.ts";

type Tls = NonNullable<TrafficPolicy["tls"]>;
type CaRef = NonNullable<BackendTLSPolicy["spec"]["validation"]["caCertificateRefs"]>[number];

/** What gateways do about one Service. */
export interface ServiceTls {
  /** By port name; "" for all ports that have none of their own. */
  byPort: Map<string, Tls>;
  /** Stands for the policies among the rules a cluster is made from. */
  rule: Policy;
}

export interface BackendTlsState {
  object: BackendTLSPolicy;
  accepted: Verdict;
  resolved: Verdict;
  /** The Services it names ("namespace/name"), each with the name of a port or "" for all. */
  targets: readonly { service: string; port: string }[];
}

export interface BackendTls {
  /** By "namespace/name" of the Service. */
  byService: ReadonlyMap<string, ServiceTls>;
  states: readonly BackendTlsState[];
  /** The certificates of authorities that policies bring together, as Secrets under names no object can have. */
  bundles: readonly (readonly [key: string, Secret])[];
}

export type BackendTlsObjects = Pick<MeshObjects, "backendTlsPolicies" | "caBundles" | "secrets">;

/** ConfigMaps that policies name, as "namespace/name". */
export const caBundleKeys = (policies: readonly BackendTLSPolicy[]): Set<string> =>
  new Set(
    policies.flatMap(({ metadata, spec }) =>
      (spec.validation.caCertificateRefs ?? []).flatMap(({ kind, name }) =>
        kind === "ConfigMap" ? [`${metadata.namespace ?? "default"}/${name}`] : [],
      ),
    ),
  );

function byAge({ metadata: a }: BackendTLSPolicy, { metadata: b }: BackendTLSPolicy): number {
  const [ageA, ageB] = [a.creationTimestamp ?? "", b.creationTimestamp ?? ""];
  if (ageA !== ageB) return ageA < ageB ? -1 : 1;
  return `${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1;
}

const caKey = "ca.crt";
/** Of what it names, so that another reference makes another cluster: connections made under the old one are not used again. */
const bundleName = ({ spec }: BackendTLSPolicy): string =>
  (spec.validation.caCertificateRefs ?? []).map(({ kind, name }) => `${kind}~${name}`).join("~");
const bundleKey = (policy: BackendTLSPolicy): string =>
  `${policy.metadata.namespace ?? "default"}/${bundleName(policy)}`;

/** Of two policies for the same target the older counts; one for a port counts before one for the whole Service. */
export function backendTlsOf(objects: BackendTlsObjects): BackendTls {
  const byService = new Map<string, ServiceTls>();
  const bundles: (readonly [string, Secret])[] = [];
  const holders = new Map<string, BackendTLSPolicy>();
  const states = objects.backendTlsPolicies.toSorted(byAge).map((object): BackendTlsState => {
    const { caPem, resolved, accepted } = authoritiesOf(object, objects);
    if (caPem !== undefined) bundles.push([bundleKey(object), bundleSecret(object, caPem)]);
    const tls = tlsOf(object);
    const targets: { service: string; port: string }[] = [];
    let conflict: Verdict | undefined;
    let won = 0;
    for (const { group, kind, name, sectionName = "" } of object.spec.targetRefs) {
      if (group !== "" || kind !== "Service") continue;
      const service = `${object.metadata.namespace ?? "default"}/${name}`;
      const target = `${service}:${sectionName}`;
      const holder = holders.get(target);
      targets.push({ service, port: sectionName });
      if (holder !== undefined) {
        conflict = failed("Conflicted", `BackendTLSPolicy ${keyOf(holder)} is older and for the same Service ${name}`);
        continue;
      }
      holders.set(target, object);
      won++;
      let entry = byService.get(service);
      if (entry === undefined) {
        entry = { byPort: new Map(), rule: ruleOf(object, service) };
        byService.set(service, entry);
      }
      entry.byPort.set(sectionName, tls);
    }
    const none = failed("Invalid", "targetRefs names no Service: other kinds are not carried out");
    const taken = won > 0 ? accepted : (conflict ?? none);
    return { object, accepted: taken, resolved, targets };
  });
  return { byService, states, bundles };
}

/** Without good certificates the name leads nowhere and connections fail: never unchecked, never plain. */
function tlsOf(policy: BackendTLSPolicy): Tls {
  const { hostname, subjectAltNames = [], caCertificateRefs } = policy.spec.validation;
  const names = subjectAltNames.flatMap(({ hostname: host, uri }) => host ?? uri ?? []);
  return {
    mode: "SIMPLE",
    sni: hostname,
    subjectAltNames: names.length > 0 ? names : [hostname],
    ...(caCertificateRefs?.length && { credentialName: bundleKey(policy) }),
  };
}

function authoritiesOf(
  policy: BackendTLSPolicy,
  { caBundles, secrets }: BackendTlsObjects,
): { caPem: string | undefined; resolved: Verdict; accepted: Verdict } {
  const refs = policy.spec.validation.caCertificateRefs ?? [];
  const good: string[] = [];
  let problem: Verdict | undefined;
  for (const ref of refs) {
    const read = certificatesOf(ref, policy.metadata.namespace ?? "default", caBundles, secrets);
    if (typeof read === "string") good.push(read);
    else problem ??= read;
  }
  return {
    caPem: good.length > 0 ? good.join("\n") : undefined,
    resolved: problem ?? passed("ResolvedRefs"),
    accepted:
      refs.length > 0 && good.length === 0
        ? failed("NoValidCACertificate", `no certificate of an authority is usable: ${problem?.message}`)
        : passed("Accepted", "Configuration is valid"),
  };
}

function certificatesOf(
  { group, kind, name }: CaRef,
  namespace: string,
  caBundles: readonly ConfigMap[],
  secrets: readonly Secret[],
): string | Verdict {
  if (group !== "" || (kind !== "ConfigMap" && kind !== "Secret"))
    return failed("InvalidKind", `${group || "core"}/${kind} holds no certificates: name a ConfigMap or a Secret`);
  const key = `${namespace}/${name}`;
  const isNamed = (object: ConfigMap | Secret): boolean => keyOf(object) === key;
  const text = kind === "ConfigMap" ? caBundles.find(isNamed)?.data?.[caKey] : secretText(secrets.find(isNamed));
  if (text !== undefined && /-----BEGIN CERTIFICATE-----/.test(text)) return text;
  return failed("InvalidCACertificateRef", `${kind} ${key} with certificates in PEM under ${caKey} does not exist`);
}

function secretText(secret: Secret | undefined): string | undefined {
  const value = secret?.data?.[caKey] as string | undefined;
  return value === undefined ? secret?.stringData?.[caKey] : Buffer.from(value, "base64").toString();
}

const bundleSecret = (policy: BackendTLSPolicy, caPem: string): Secret => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { ...policy.metadata, name: bundleName(policy) },
  stringData: { [caKey]: caPem },
});

/** In the shape of a DestinationRule, as Istio makes one of it. */
function ruleOf(policy: BackendTLSPolicy, service: string): Policy {
  const { name, namespace = "default", uid } = policy.metadata;
  const metadata = { ...policy.metadata, name: `${name}~backend-tls`, uid: `${uid}/${service}` };
  const object = { apiVersion: "networking.istio.io/v1", kind: "DestinationRule", metadata } as Policy["object"];
  return { object, namespace, host: service, exportTo: undefined };
}
