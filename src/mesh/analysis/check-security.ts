// Policies: whom they are about, what they can never do, and what is missing beside them.

import { keyOf } from "../../api/object.ts";
import type { AuthorizationPolicySpec, AuthorizationRule } from "../../api/security.ts";
import { matchesMap } from "../../api/selectors.ts";
import type { RequestAuthentication } from "../../api/types.ts";
import { selects } from "../translate-listeners.ts";
import { policiesFor } from "../translate-security.ts";
import type { Model, Workload } from "../types.ts";
import type { Cluster } from "./cluster.ts";
import { didYouMean, nearest } from "./suggest.ts";
import type { Check, Report, Subject } from "./types.ts";

interface Selecting extends Subject {
  spec?: {
    selector?: { matchLabels?: Record<string, string> };
    targetRef?: { kind: string; name: string };
    targetRefs?: { kind: string; name: string }[];
  };
}

const isMeshWide = ({ model }: Cluster, { metadata }: Subject): boolean =>
  metadata.namespace === model.config.rootNamespace;

/** Pods of the policy's namespace, of all namespaces for one of the root namespace, that are in the mesh. */
const podsAround = (cluster: Cluster, policy: Subject): Workload[] =>
  cluster.model.workloads.filter(
    (pod) =>
      (pod.injected || pod.gateway) && (isMeshWide(cluster, policy) || pod.namespace === policy.metadata.namespace),
  );

/** Every policy that may have a selector, as far as it is about pods. */
const selectingOf = ({ model, objects }: Cluster): Selecting[] =>
  [
    ...model.authorizationPolicies,
    ...model.requestAuthentications,
    ...model.peerAuthentications,
    ...(objects.wasmPlugins as readonly Selecting[]),
    ...(objects.proxyConfigs as readonly Selecting[]),
  ] as Selecting[];

export const checkPolicySelectors: Check = (cluster, report) => {
  for (const policy of selectingOf(cluster)) {
    const labels = policy.spec?.selector?.matchLabels ?? {};
    if (policy.spec?.targetRef || policy.spec?.targetRefs?.length) continue;
    const around = podsAround(cluster, policy);
    const [key] = Object.keys(labels);
    if (key === undefined) {
      if (around.length === 0 && !isMeshWide(cluster, policy))
        report(
          "IST0127",
          policy,
          "metadata.namespace",
          "No matching workloads for this resource with the following labels: ",
          `namespace ${policy.metadata.namespace} has no pods in the mesh`,
        );
      continue;
    }
    if (around.some((pod) => matchesMap(labels, pod.labels))) continue;
    const text = Object.entries(labels)
      .map(([name, value]) => `${name}=${value}`)
      .join(",");
    const outside = cluster.model.workloads.some(
      (pod) => pod.namespace === policy.metadata.namespace && matchesMap(labels, pod.labels),
    );
    const values = around.flatMap((pod) => pod.labels[key] ?? []);
    const near = nearest(labels[key]!, values);
    const fix = outside
      ? "the pods with these labels are not in the mesh"
      : near
        ? `did you mean "${key}: ${near}"?`
        : didYouMean(
            key,
            around.flatMap((pod) => Object.keys(pod.labels)),
            "there are no pods in the mesh here",
          );
    report(
      "IST0127",
      policy,
      `spec.selector.matchLabels[${key}]`,
      `No matching workloads for this resource with the following labels: ${text}`,
      fix,
    );
  }
};

/** Gateways of the Gateway API are attached to by reference. */
export const checkGatewayApiSelectors: Check = (cluster, report) => {
  const label = "gateway.networking.k8s.io/gateway-name";
  const gatewayPods = cluster.model.workloads.filter((pod) => pod.labels[label] !== undefined);
  const policies = [...selectingOf(cluster), ...(cluster.model.telemetries as readonly Selecting[])];
  for (const policy of policies) {
    const labels = policy.spec?.selector?.matchLabels;
    if (labels === undefined || policy.kind === "PeerAuthentication") continue;
    const pod = gatewayPods.find(
      (each) => each.namespace === policy.metadata.namespace && matchesMap(labels, each.labels),
    );
    if (pod === undefined) continue;
    report(
      "IST0166",
      policy,
      "spec.selector",
      `Ineffective selector on Kubernetes Gateway ${pod.labels[label]}. Use the TargetRef field instead.`,
      `targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: ${pod.labels[label]} }]`,
    );
  }
};

export const checkPolicyNamespaces: Check = ({ model, namespaces }, report) => {
  const fits = (pattern: string): boolean =>
    pattern === "*" ||
    [...namespaces.keys()].some((name) =>
      pattern.startsWith("*")
        ? name.endsWith(pattern.slice(1))
        : pattern.endsWith("*")
          ? name.startsWith(pattern.slice(0, -1))
          : name === pattern,
    );
  for (const policy of model.authorizationPolicies)
    policy.spec?.rules?.forEach((rule, i) => {
      rule.from?.forEach(({ source }, j) => {
        for (const field of ["namespaces", "notNamespaces"] as const)
          source?.[field]?.forEach((name, k) => {
            if (fits(name)) return;
            const path = `spec.rules[${i}].from[${j}].source.${field}[${k}]`;
            const fix = didYouMean(name, namespaces.keys(), "there is no namespace");
            report("IST0101", policy, path, `Referenced namespace not found: "${name}"`, fix);
          });
      });
    });
};

export const checkProviders: Check = ({ model }, report) => {
  const names = (model.settings.extensionProviders ?? []).map(({ name }) => name);
  for (const policy of model.authorizationPolicies) {
    const name = policy.spec?.provider?.name;
    if (policy.spec?.action !== "CUSTOM" || name === undefined || names.includes(name)) continue;
    const fix = didYouMean(name, names, "MeshConfig (ConfigMap istio in istio-system) has no extensionProviders");
    report("IST0101", policy, "spec.provider.name", `Referenced extension provider not found: "${name}"`, fix);
  }
};

const httpOperations = ["hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"] as const;
const httpSources = ["requestPrincipals", "notRequestPrincipals"] as const;

/** The first field of the rule that only HTTP has. */
function httpField({ from, to, when }: AuthorizationRule): string | undefined {
  for (const [j, { operation }] of (to ?? []).entries())
    for (const field of httpOperations) if (operation?.[field]) return `to[${j}].operation.${field}`;
  for (const [j, { source }] of (from ?? []).entries())
    for (const field of httpSources) if (source?.[field]) return `from[${j}].source.${field}`;
  const index = (when ?? []).findIndex(({ key }) => key?.startsWith("request."));
  return index < 0 ? undefined : `when[${index}].key`;
}

export const checkHttpRules: Check = (cluster, report) => {
  for (const policy of cluster.model.authorizationPolicies) {
    const action = policy.spec?.action ?? "ALLOW";
    const pods = cluster.model.workloads.filter((pod) => policiesFor([policy], cluster.model, pod).length > 0);
    const services = cluster.model.services.filter(({ namespace, service }) =>
      pods.some((pod) => pod.namespace === namespace && selects(service.spec?.selector, pod.labels)),
    );
    const ports = services.flatMap((service) => service.ports.map((port) => ({ port, service })));
    if (ports.length === 0 || ports.some(({ port }) => ["http", "http2", "grpc"].includes(port.protocol))) continue;
    policy.spec?.rules?.forEach((rule, i) => {
      const field = httpField(rule);
      if (field === undefined) return;
      const does = action === "DENY" ? "then denies every connection (apart from this field)" : "then matches nothing";
      report(
        "MB0109",
        policy,
        `spec.rules[${i}].${field}`,
        `no port of ${keyOf(services[0]!.service)} is known to speak HTTP: the rule ${does}`,
        `name the Service's port "http", or write the rule without ${field.split(".").at(-1)}`,
      );
    });
  }
};

/** Whether the policy lets nothing through that has no token. */
function demandsToken({ action, rules = [] }: AuthorizationPolicySpec): boolean {
  const names = (rule: AuthorizationRule, field: "requestPrincipals" | "notRequestPrincipals"): boolean =>
    (rule.from ?? []).some(({ source }) => source?.[field]?.length) ||
    (rule.when ?? []).some(
      ({ key, values, notValues }) =>
        key?.startsWith("request.auth.") && (field === "requestPrincipals" ? values : notValues)?.length,
    );
  if (action === "DENY") return rules.some((rule) => names(rule, "notRequestPrincipals"));
  return (action ?? "ALLOW") === "ALLOW" && rules.some((rule) => names(rule, "requestPrincipals"));
}

export const checkTokens: Check = (cluster, report) => {
  const { model } = cluster;
  for (const policy of model.requestAuthentications) {
    if (!policy.spec?.jwtRules?.length) {
      report(
        "IST0167",
        policy,
        "spec.jwtRules",
        "The policy has no impact: it has no jwtRules.",
        "add a rule with issuer and jwksUri",
      );
      continue;
    }
    const pods = model.workloads.filter((pod) => policiesFor([policy], model, pod).length > 0);
    const open = pods.find(
      (pod) => !policiesFor(model.authorizationPolicies, model, pod).some(({ spec }) => spec && demandsToken(spec)),
    );
    if (open !== undefined)
      report(
        "MB0107",
        policy,
        "spec.jwtRules",
        `requests without a token pass: no AuthorizationPolicy of ${keyOf(cluster.ownerOf(open))} asks for one (an invalid token is refused with 401)`,
        "add an AuthorizationPolicy with \"from: [{ source: { requestPrincipals: ['*'] } }]\"",
      );
    checkJwtPorts(model, report, policy, pods);
  }
};

function checkJwtPorts(model: Model, report: Report, policy: RequestAuthentication, pods: readonly Workload[]): void {
  for (const { service, namespace, ports } of model.services) {
    if (!pods.some((pod) => !pod.gateway && pod.namespace === namespace && selects(service.spec?.selector, pod.labels)))
      continue;
    const port = ports.find(({ protocol }) => !["http", "http2", "grpc"].includes(protocol));
    if (port === undefined || ports.length > 1) continue;
    report(
      "IST0119",
      policy,
      "spec.jwtRules",
      `Authentication policy with JWT targets Service with invalid port specification (port: ${port.port}, name: ${port.name}, protocol: ${port.protocol}, targetPort: ${port.targetPort}).`,
      `name port ${port.port} of Service ${keyOf(service)} "http"`,
    );
  }
}

/** Of policies with equal reach the oldest counts. */
export const checkShadowedPeerAuthentications: Check = ({ model }, report) => {
  const first = new Map<string, string>();
  for (const policy of model.peerAuthentications) {
    const labels = Object.entries(policy.spec?.selector?.matchLabels ?? {})
      .sort()
      .join();
    const key = `${policy.metadata.namespace} ${labels}`;
    const older = first.get(key);
    if (older === undefined) first.set(key, keyOf(policy));
    else
      report(
        "IST0167",
        policy,
        "metadata.name",
        `The policy has no impact: PeerAuthentication ${older} is older and about the same workloads.`,
        "keep one of the two",
      );
  }
};

export const checkEmptyPolicies: Check = ({ model }, report) => {
  for (const policy of model.authorizationPolicies) {
    const { action = "ALLOW", rules, selector, targetRef, targetRefs } = policy.spec ?? {};
    // "Deny all" is written as an empty spec on purpose.
    if (rules === undefined && Object.keys(policy.spec ?? {}).length === 0) continue;
    if (action === "ALLOW" && rules?.length === 0)
      report(
        "MB0114",
        policy,
        "spec.rules",
        "an ALLOW policy with an empty list of rules denies every request",
        'to allow all, write "rules: [{}]"',
      );
    const everything = rules?.findIndex((rule) => !rule.from && !rule.to && !rule.when) ?? -1;
    if (everything >= 0 && (rules?.length ?? 0) > 1)
      report(
        "MB0114",
        policy,
        `spec.rules[${everything}]`,
        `the empty rule matches every request: the other rules of this ${action} policy change nothing`,
        "remove the empty rule, or the others",
      );
    if (action === "DENY" && everything >= 0 && !selector && !targetRef && !targetRefs)
      report(
        "MB0114",
        policy,
        `spec.rules[${everything}]`,
        "denies every request to every workload it is about",
        undefined,
      );
  }
};

const claimHeader = /^@request\.auth\.claims[.[]/;

/** Claims are only known where a token was validated. */
export const checkClaimRouting: Check = (cluster, report) => {
  const { model } = cluster;
  for (const { object, gateways } of model.ruleSets)
    object.spec?.http?.forEach((rule, i) => {
      rule.match?.forEach((match, j) => {
        for (const field of ["headers", "withoutHeaders"] as const)
          for (const name of Object.keys((match as Record<string, object | undefined>)[field] ?? {})) {
            if (!claimHeader.test(name)) continue;
            for (const gateway of model.gateways) {
              if (!gateways.has(keyOf(gateway))) continue;
              const pod = model.workloads.find(
                (each) =>
                  each.gateway &&
                  matchesMap(gateway.spec?.selector, each.labels) &&
                  policiesFor(model.requestAuthentications, model, each).length === 0,
              );
              if (pod === undefined) continue;
              report(
                "IST0149",
                object,
                `spec.http[${i}].match[${j}].${field}[${name}]`,
                `The virtual service uses the JWT claim based routing (key: ${name}) but found no request authentication for the gateway (${keyOf(gateway)}) pod (${pod.name}). The request authentication must first be applied for the gateway pods to validate the JWT token and make the claims available for routing.`,
                `add a RequestAuthentication in namespace ${pod.namespace} that selects the gateway`,
              );
            }
          }
      });
    });
};
