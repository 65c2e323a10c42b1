// What is wrong with a pod or a pod template (pkg/apis/core/validation ValidatePodSpec, ValidatePodUpdate).

import {
  child,
  duplicate,
  forbidden,
  inRange,
  invalid,
  notNegative,
  oneOf,
  required,
  sameValue,
} from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { dnsLabelProblem, dnsSubdomainProblem, labelKeyProblem, labelValueProblem } from "../names.ts";
import type { Pod } from "../types.ts";
import { validateContainer } from "./container-validation.ts";
import { validateLabels } from "./metadata.ts";
import type { Container, PodSpec } from "./pod-defaults.ts";
import { validateVolumes } from "./volume-validation.ts";

type Toleration = NonNullable<PodSpec["tolerations"]>[number];

/** A pod with more is refused; Kubernetes has no bound of its own but that of the request. */
const containersMax = 256;

function validateContainers(spec: PodSpec, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const volumes = new Set((spec.volumes ?? []).map((volume) => volume.name));
  const names = new Set<string>();
  const hostPorts = new Set<string>();
  const check = (containers: readonly Container[] | undefined, at: string, isInit: boolean) => {
    containers?.forEach((container, i) => {
      const here = child(at, i);
      errors.push(...validateContainer(container, here, { isInit, volumes }));
      if (container.name && names.has(container.name)) errors.push(duplicate(child(here, "name"), container.name));
      names.add(container.name);
      const portNames = new Set<string>();
      container.ports?.forEach((port, j) => {
        if (port.name && portNames.has(port.name)) errors.push(duplicate(child(here, "ports", j, "name"), port.name));
        portNames.add(port.name ?? "");
        if (!port.hostPort || isInit) return;
        const key = `${port.protocol}/${port.hostIP ?? ""}/${port.hostPort}`;
        if (hostPorts.has(key)) errors.push(duplicate(child(here, "ports", j, "hostPort"), key));
        hostPorts.add(key);
        if (spec.hostNetwork === true && port.hostPort !== port.containerPort)
          errors.push(
            invalid(
              child(here, "ports", j, "containerPort"),
              port.containerPort,
              "must match `hostPort` when `hostNetwork` is true",
            ),
          );
      });
    });
  };
  if (!spec.containers?.length) errors.push(required(child(path, "containers")));
  errors.push(...inRange(child(path, "containers"), spec.containers?.length, 0, containersMax));
  check(spec.initContainers, child(path, "initContainers"), true);
  check(spec.containers, child(path, "containers"), false);
  return errors;
}

function validateToleration(toleration: Toleration, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const { key, operator, value, effect, tolerationSeconds } = toleration;
  if (key) {
    const problem = labelKeyProblem(key);
    if (problem !== undefined) errors.push(invalid(child(path, "key"), key, problem));
  } else if (operator !== "Exists")
    errors.push(
      invalid(
        child(path, "operator"),
        operator ?? "",
        'operator must be Exists when `key` is empty, which means "match all values and all keys"',
      ),
    );
  if (tolerationSeconds !== undefined && effect !== "NoExecute")
    errors.push(
      invalid(child(path, "effect"), effect ?? "", "effect must be 'NoExecute' when `tolerationSeconds` is set"),
    );
  errors.push(...oneOf(child(path, "operator"), operator, ["Equal", "Exists"]));
  if (operator === "Exists" && value)
    errors.push(invalid(child(path, "operator"), toleration, "value must be empty when `operator` is 'Exists'"));
  const problem = labelValueProblem(value ?? "");
  if (problem !== undefined) errors.push(invalid(child(path, "value"), value, problem));
  errors.push(...oneOf(child(path, "effect"), effect, ["NoExecute", "NoSchedule", "PreferNoSchedule"]));
  return errors;
}

function validateNodeSelectorTerms(spec: PodSpec, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const at = child(
    path,
    "affinity",
    "nodeAffinity",
    "requiredDuringSchedulingIgnoredDuringExecution",
    "nodeSelectorTerms",
  );
  const selector = spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  if (selector !== undefined && selector.nodeSelectorTerms.length === 0)
    errors.push(required(at, "must have at least one node selector term"));
  selector?.nodeSelectorTerms.forEach((term, i) => {
    term.matchExpressions?.forEach(({ key, operator, values = [] }, j) => {
      const here = child(at, i, "matchExpressions", j);
      const problem = labelKeyProblem(key);
      if (problem !== undefined) errors.push(invalid(child(here, "key"), key, problem));
      if (operator === "In" || operator === "NotIn") {
        if (values.length === 0)
          errors.push(required(child(here, "values"), "must be specified when `operator` is 'In' or 'NotIn'"));
      } else if (operator === "Exists" || operator === "DoesNotExist") {
        if (values.length > 0)
          errors.push(
            forbidden(child(here, "values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
          );
      } else if (operator === "Gt" || operator === "Lt") {
        if (values.length !== 1)
          errors.push(
            required(child(here, "values"), "must be specified single value when `operator` is 'Lt' or 'Gt'"),
          );
      } else errors.push(invalid(child(here, "operator"), operator, "not a valid selector operator"));
    });
  });
  return errors;
}

function validatePlacement(spec: PodSpec, path: string): FieldError[] {
  const errors = validateLabels(spec.nodeSelector, child(path, "nodeSelector"));
  spec.tolerations?.forEach((toleration, i) => {
    errors.push(...validateToleration(toleration, child(path, "tolerations", i)));
  });
  errors.push(...validateNodeSelectorTerms(spec, path));
  spec.topologySpreadConstraints?.forEach((constraint, i) => {
    const at = child(path, "topologySpreadConstraints", i);
    if (!constraint.topologyKey) errors.push(required(child(at, "topologyKey"), "can not be empty"));
    if (!(constraint.maxSkew > 0))
      errors.push(invalid(child(at, "maxSkew"), constraint.maxSkew, "must be greater than zero"));
    const allowed = ["DoNotSchedule", "ScheduleAnyway"];
    errors.push(...oneOf(child(at, "whenUnsatisfiable"), constraint.whenUnsatisfiable, allowed, true));
  });
  return errors;
}

function validateNames(spec: PodSpec, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const check = (field: string, value: string | undefined, problemOf: (name: string) => string | undefined) => {
    const problem = value ? problemOf(value) : undefined;
    if (problem !== undefined) errors.push(invalid(child(path, field), value, problem));
  };
  check("serviceAccountName", spec.serviceAccountName, dnsSubdomainProblem);
  check("nodeName", spec.nodeName, dnsSubdomainProblem);
  check("hostname", spec.hostname, dnsLabelProblem);
  check("subdomain", spec.subdomain, dnsLabelProblem);
  check("priorityClassName", spec.priorityClassName, dnsSubdomainProblem);
  spec.hostAliases?.forEach((alias, i) => {
    if (!/^[0-9a-fA-F.:]+$/.test(alias.ip ?? ""))
      errors.push(
        invalid(
          child(path, "hostAliases", i, "ip"),
          alias.ip,
          "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
      );
    alias.hostnames?.forEach((name, j) => {
      const problem = dnsSubdomainProblem(name);
      if (problem !== undefined) errors.push(invalid(child(path, "hostAliases", i, "hostnames", j), name, problem));
    });
  });
  return errors;
}

export function validatePodSpec(spec: PodSpec | undefined, path: string): FieldError[] {
  if (spec === undefined) return [required(child(path, "containers"))];
  const errors = validateVolumes(spec.volumes, child(path, "volumes"));
  errors.push(...validateContainers(spec, path), ...validatePlacement(spec, path), ...validateNames(spec, path));
  errors.push(...oneOf(child(path, "restartPolicy"), spec.restartPolicy, ["Always", "Never", "OnFailure"], true));
  const policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
  errors.push(...oneOf(child(path, "dnsPolicy"), spec.dnsPolicy, policies, true));
  if (spec.dnsPolicy === "None" && !spec.dnsConfig?.nameservers?.length)
    errors.push(
      required(
        child(path, "dnsConfig", "nameservers"),
        "must provide at least one DNS nameserver when `dnsPolicy` is None",
      ),
    );
  errors.push(...notNegative(child(path, "terminationGracePeriodSeconds"), spec.terminationGracePeriodSeconds));
  errors.push(...inRange(child(path, "activeDeadlineSeconds"), spec.activeDeadlineSeconds, 1, 2 ** 31 - 1));
  return errors;
}

/** A copy without what may change in a running pod. */
function fixedPart(spec: PodSpec): Record<string, unknown> {
  const withoutImages = (containers: readonly Container[] | undefined) =>
    containers?.map(({ image: _image, imagePullPolicy: _policy, ...rest }) => rest);
  const {
    activeDeadlineSeconds: _deadline,
    tolerations: _tolerations,
    terminationGracePeriodSeconds: _grace,
    nodeName: _node,
    ...rest
  } = spec;
  return { ...rest, containers: withoutImages(spec.containers), initContainers: withoutImages(spec.initContainers) };
}

export function validatePod(pod: Pod, old?: Pod): FieldError[] {
  const errors = validatePodSpec(pod.spec, "spec");
  if (pod.spec === undefined || old?.spec === undefined) return errors;
  const kept = (old.spec.tolerations ?? []).every((toleration) =>
    pod.spec!.tolerations?.some((each) =>
      sameValue({ ...each, tolerationSeconds: 0 }, { ...toleration, tolerationSeconds: 0 }),
    ),
  );
  if (!kept)
    errors.push(forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"));
  // The scheduler sets the node once, through the binding; nothing moves a pod after that.
  const moved = old.spec.nodeName ? pod.spec.nodeName !== old.spec.nodeName : false;
  if (moved || !sameValue(fixedPart(pod.spec), fixedPart(old.spec)))
    errors.push(
      forbidden(
        "spec",
        "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
      ),
    );
  return errors;
}
