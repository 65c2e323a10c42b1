// What belongs to the mesh: namespace labels, `image: auto`, users, and Istio's annotations.

import { isInjected } from "../../api/injection.ts";
import { annotations, isIstioAnnotation } from "./annotations.ts";
import { nearest } from "./suggest.ts";
import type { Check, Report, Subject } from "./types.ts";

const systemNamespaces = new Set([
  "kube-system",
  "kube-public",
  "kube-node-lease",
  "istio-system",
  "local-path-storage",
]);
const injectionLabel = "istio-injection";
const revisionLabel = "istio.io/rev";

/** The user Istio's proxy runs as. */
const proxyUser = 1337;

export const checkNamespaces: Check = ({ objects }, report) => {
  for (const namespace of objects.namespaces) {
    const { name, labels = {} } = namespace.metadata;
    if (systemNamespaces.has(name)) continue;
    if (labels[injectionLabel] !== undefined && labels[revisionLabel] !== undefined)
      report(
        "IST0123",
        namespace,
        `metadata.labels[${revisionLabel}]`,
        `The namespace has more than one type of injection labels [${injectionLabel} ${revisionLabel}], which may lead to undefined behavior. Make sure only one injection label exists.`,
        `remove "${revisionLabel}": meshbed reads "${injectionLabel}"`,
      );
    else if (labels[injectionLabel] === undefined && labels["istio.io/dataplane-mode"] === undefined)
      report(
        "IST0102",
        namespace,
        "metadata.labels",
        `The namespace is not enabled for Istio injection. Run 'kubectl label namespace ${name} istio-injection=enabled' to enable it, or 'kubectl label namespace ${name} istio-injection=disabled' to explicitly mark it as not needing injection.`,
        labels[revisionLabel] === undefined ? undefined : `"${revisionLabel}" is not read: there is one control plane`,
      );
  }
};

interface PodSpec {
  hostNetwork?: boolean;
  securityContext?: { runAsUser?: number };
  containers?: { name?: string; image?: string; securityContext?: { runAsUser?: number } }[];
}

export const checkPodSpecs: Check = ({ objects, deployments, namespaces }, report) => {
  const look = (
    subject: Subject,
    labels: Record<string, string> | undefined,
    spec: PodSpec | undefined,
    path: string,
  ): void => {
    const isUser = [spec?.securityContext, ...(spec?.containers ?? []).map((each) => each.securityContext)];
    if (isUser.some((context) => context?.runAsUser === proxyUser)) {
      const index = (spec?.containers ?? []).findIndex((each) => each.securityContext?.runAsUser === proxyUser);
      const field =
        index < 0 ? `${path}.securityContext.runAsUser` : `${path}.containers[${index}].securityContext.runAsUser`;
      report("IST0144", subject, field, "User ID (UID) 1337 is reserved for the sidecar proxy.", "use another user");
    }
    const index = (spec?.containers ?? []).findIndex(({ image }) => image === "auto");
    if (index < 0) return;
    // On the host's network only the gateway itself would be injected: Istio's webhook then looks at the labels alone.
    const namespace = namespaces.get(subject.metadata.namespace ?? "default");
    if (isInjected({ metadata: { ...(labels && { labels }) }, spec: {} }, namespace)) return;
    const code = subject.kind === "Pod" ? "IST0147" : "IST0146";
    report(
      code,
      subject,
      `${path}.containers[${index}].image`,
      `${subject.kind} ${subject.metadata.name} contains \`image: auto\` but does not match any Istio injection webhook selectors.`,
      "label the pod template 'sidecar.istio.io/inject: \"true\"', or the namespace 'istio-injection: enabled'",
    );
  };
  for (const deployment of deployments) {
    const template = deployment.spec?.template;
    look(deployment, template?.metadata?.labels, template?.spec as PodSpec | undefined, "spec.template.spec");
  }
  for (const pod of objects.pods)
    if (!pod.metadata.ownerReferences?.length)
      look({ ...pod, apiVersion: "v1", kind: "Pod" }, pod.metadata.labels, pod.spec as PodSpec | undefined, "spec");
};

function checkOne(
  report: Report,
  subject: Subject,
  kind: string,
  values: Record<string, string> | undefined,
  path: string,
  hasInjectLabel: boolean,
): void {
  for (const [name, value] of Object.entries(values ?? {})) {
    if (!isIstioAnnotation(name)) continue;
    const field = `${path}[${name}]`;
    const known = annotations[name];
    if (known === undefined) {
      const near = nearest(name, Object.keys(annotations));
      report("IST0108", subject, field, `Unknown annotation: ${name}`, near ? `did you mean "${near}"?` : "remove it");
      continue;
    }
    if (known.deprecated !== undefined && !(name === "sidecar.istio.io/inject" && hasInjectLabel))
      report(
        "IST0135",
        subject,
        field,
        `Annotation "${name}" has been deprecated${known.deprecated} and may not work in future Istio versions.`,
        name === "sidecar.istio.io/inject" ? 'use the label "sidecar.istio.io/inject"' : "remove it",
      );
    if (!known.on.includes("Any") && !known.on.includes(kind))
      report(
        "IST0107",
        subject,
        field,
        `Misplaced annotation: ${name} can only be applied to ${known.on.join(", ")}`,
        known.on.includes("Pod") ? "move it to the pod template (spec.template.metadata.annotations)" : "move it there",
      );
    else {
      const problem = known.problemOf?.(value);
      if (problem !== undefined) report("IST0125", subject, field, `Invalid annotation ${name}: ${problem}`);
    }
  }
}

export const checkAnnotations: Check = ({ objects, deployments }, report) => {
  const own = (list: readonly Subject[], kind: string): void => {
    for (const subject of list)
      checkOne(report, subject, kind, subject.metadata.annotations, "metadata.annotations", false);
  };
  own(objects.namespaces, "Namespace");
  own(objects.services, "Service");
  own(
    objects.pods.map((pod) => ({ ...pod, apiVersion: "v1", kind: "Pod" })),
    "Pod",
  );
  own(deployments, "Deployment");
  for (const deployment of deployments) {
    const metadata = deployment.spec?.template?.metadata;
    const hasLabel = metadata?.labels?.["sidecar.istio.io/inject"] !== undefined;
    checkOne(report, deployment, "Pod", metadata?.annotations, "spec.template.metadata.annotations", hasLabel);
  }
};
