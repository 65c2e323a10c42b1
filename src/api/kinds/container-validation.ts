// What is wrong with one container of a pod (pkg/apis/core/validation validateContainers).

import {
  child,
  forbidden,
  inRange,
  invalid,
  keyed,
  notFound,
  notNegative,
  notSupported,
  oneOf,
  required,
} from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { dnsLabelProblem, envNameProblem, labelKeyProblem, portNameProblem } from "../names.ts";
import { compareQuantities, isQuantity, quantityRule } from "../quantity.ts";
import type { Container } from "./pod-defaults.ts";

type Probe = NonNullable<Container["livenessProbe"]>;
type Handler = Pick<Probe, "exec" | "httpGet" | "tcpSocket" | "grpc">;

interface Surroundings {
  isInit: boolean;
  /** Names of the pod's volumes. */
  volumes: ReadonlySet<string>;
}

const dnsSafeFieldPaths = [
  "metadata.name",
  "metadata.namespace",
  "metadata.uid",
  "spec.nodeName",
  "spec.serviceAccountName",
  "status.hostIP",
  "status.hostIPs",
  "status.podIP",
  "status.podIPs",
];

function validatePorts(container: Container, path: string): FieldError[] {
  const errors: FieldError[] = [];
  container.ports?.forEach((port, i) => {
    const at = child(path, "ports", i);
    const problem = port.name ? portNameProblem(port.name) : undefined;
    if (problem !== undefined) errors.push(invalid(child(at, "name"), port.name, problem));
    if (!port.containerPort) errors.push(required(child(at, "containerPort")));
    else errors.push(...inRange(child(at, "containerPort"), port.containerPort, 1, 65535));
    if (port.hostPort) errors.push(...inRange(child(at, "hostPort"), port.hostPort, 1, 65535));
    errors.push(...oneOf(child(at, "protocol"), port.protocol, ["SCTP", "TCP", "UDP"], true));
  });
  return errors;
}

function validateEnv(container: Container, path: string): FieldError[] {
  const errors: FieldError[] = [];
  container.env?.forEach((variable, i) => {
    const at = child(path, "env", i);
    if (!variable.name) errors.push(required(child(at, "name")));
    else {
      const problem = envNameProblem(variable.name);
      if (problem !== undefined) errors.push(invalid(child(at, "name"), variable.name, problem));
    }
    const from = variable.valueFrom;
    if (from === undefined) return;
    const here = child(at, "valueFrom");
    const sources = Object.keys(from).length;
    if (sources === 0)
      errors.push(
        invalid(
          here,
          "",
          "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
      );
    if (sources > 1) errors.push(invalid(here, "", "may not have more than one field specified at a time"));
    if (sources > 0 && variable.value) errors.push(invalid(here, "", "may not be specified when `value` is not empty"));
    const fieldPath = from.fieldRef?.fieldPath;
    if (
      fieldPath !== undefined &&
      !/^metadata\.(labels|annotations)\['.+'\]$/.test(fieldPath) &&
      !dnsSafeFieldPaths.includes(fieldPath)
    )
      errors.push(notSupported(child(here, "fieldRef", "fieldPath"), fieldPath, dnsSafeFieldPaths));
    for (const source of ["configMapKeyRef", "secretKeyRef"] as const)
      if (from[source] !== undefined) {
        if (!from[source].name) errors.push(required(child(here, source, "name")));
        if (!from[source].key) errors.push(required(child(here, source, "key")));
      }
    if (from.resourceFieldRef !== undefined && !from.resourceFieldRef.resource)
      errors.push(required(child(here, "resourceFieldRef", "resource")));
  });
  container.envFrom?.forEach((from, i) => {
    const at = child(path, "envFrom", i);
    const sources = [from.configMapRef, from.secretRef].filter((source) => source !== undefined);
    if (sources.length === 0) errors.push(invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"));
    if (sources.length > 1) errors.push(invalid(at, "", "may not have more than one field specified at a time"));
    if (sources[0] !== undefined && !sources[0].name) errors.push(required(child(at, "name")));
  });
  return errors;
}

function validateMounts(container: Container, path: string, volumes: ReadonlySet<string>): FieldError[] {
  const errors: FieldError[] = [];
  const paths = new Set<string>();
  container.volumeMounts?.forEach((mount, i) => {
    const at = child(path, "volumeMounts", i);
    if (!mount.name) errors.push(required(child(at, "name")));
    else if (!volumes.has(mount.name)) errors.push(notFound(child(at, "name"), mount.name));
    if (!mount.mountPath) errors.push(required(child(at, "mountPath")));
    else if (paths.has(mount.mountPath))
      errors.push(invalid(child(at, "mountPath"), mount.mountPath, "must be unique"));
    paths.add(mount.mountPath);
    if (mount.subPath && mount.subPathExpr)
      errors.push(
        invalid(child(at, "subPathExpr"), mount.subPathExpr, "subPathExpr and subPath are mutually exclusive"),
      );
    const subPath = mount.subPath || mount.subPathExpr || "";
    const field = child(at, mount.subPath ? "subPath" : "subPathExpr");
    if (subPath.startsWith("/")) errors.push(invalid(field, subPath, "must be a relative path"));
    if (subPath.split("/").includes("..")) errors.push(invalid(field, subPath, "must not contain '..'"));
  });
  return errors;
}

function validateResources(container: Container, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const { requests = {}, limits = {} } = container.resources ?? {};
  for (const [field, quantities] of [
    ["limits", limits],
    ["requests", requests],
  ] as const)
    for (const [name, value] of Object.entries(quantities)) {
      const at = keyed(child(path, "resources", field), name);
      const problem = labelKeyProblem(name);
      if (problem !== undefined) errors.push(invalid(at, name, problem));
      else if (!name.includes("/") && !/^(cpu|memory|ephemeral-storage|hugepages-.+)$/.test(name))
        errors.push(invalid(at, name, "must be a standard resource for containers"));
      if (!isQuantity(value)) errors.push(invalid(at, value, quantityRule));
      else if (compareQuantities(value, 0) < 0)
        errors.push(invalid(at, String(value), "must be greater than or equal to 0"));
    }
  for (const [name, value] of Object.entries(requests)) {
    const limit = limits[name];
    if (isQuantity(value) && isQuantity(limit) && compareQuantities(value, limit!) > 0)
      errors.push(
        invalid(
          child(path, "resources", "requests"),
          String(value),
          `must be less than or equal to ${name} limit of ${limit}`,
        ),
      );
  }
  return errors;
}

function validatePort(port: string | number | undefined, path: string): FieldError[] {
  if (typeof port === "string") {
    const problem = portNameProblem(port);
    return problem === undefined ? [] : [invalid(path, port, problem)];
  }
  return inRange(path, port ?? 0, 1, 65535);
}

function validateHandler(handler: Handler & { sleep?: unknown }, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const names = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] as const;
  const present = names.filter((name) => handler[name] !== undefined);
  if (present.length === 0) errors.push(required(path, "must specify a handler type"));
  for (const extra of present.slice(1))
    errors.push(forbidden(child(path, extra), "may not specify more than 1 handler type"));
  if (handler.exec !== undefined && !handler.exec.command?.length)
    errors.push(required(child(path, "exec", "command")));
  if (handler.httpGet !== undefined) {
    const at = child(path, "httpGet");
    errors.push(...validatePort(handler.httpGet.port, child(at, "port")));
    errors.push(...oneOf(child(at, "scheme"), handler.httpGet.scheme, ["HTTP", "HTTPS"]));
    handler.httpGet.httpHeaders?.forEach((header, i) => {
      if (!/^[-A-Za-z0-9]+$/.test(header.name))
        errors.push(
          invalid(
            child(at, "httpHeaders", i),
            header.name,
            "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
          ),
        );
    });
  }
  if (handler.tcpSocket !== undefined)
    errors.push(...validatePort(handler.tcpSocket.port, child(path, "tcpSocket", "port")));
  if (handler.grpc !== undefined) errors.push(...validatePort(handler.grpc.port, child(path, "grpc", "port")));
  return errors;
}

function validateProbes(container: Container, path: string, isInit: boolean): FieldError[] {
  const errors: FieldError[] = [];
  for (const name of ["livenessProbe", "readinessProbe", "startupProbe"] as const) {
    const probe = container[name];
    if (probe === undefined) continue;
    const at = child(path, name);
    if (isInit && container.restartPolicy !== "Always") {
      errors.push(forbidden(at, "may not be set for init containers without restartPolicy=Always"));
      continue;
    }
    errors.push(...validateHandler(probe, at));
    for (const field of [
      "initialDelaySeconds",
      "timeoutSeconds",
      "periodSeconds",
      "successThreshold",
      "failureThreshold",
    ] as const)
      errors.push(...notNegative(child(at, field), probe[field]));
    if (name !== "readinessProbe" && (probe.successThreshold ?? 1) !== 1)
      errors.push(invalid(child(at, "successThreshold"), probe.successThreshold, "must be 1"));
  }
  for (const name of ["postStart", "preStop"] as const) {
    const handler = container.lifecycle?.[name];
    if (handler !== undefined) errors.push(...validateHandler(handler, child(path, "lifecycle", name)));
  }
  return errors;
}

export function validateContainer(container: Container, path: string, { isInit, volumes }: Surroundings): FieldError[] {
  const errors: FieldError[] = [];
  if (!container.name) errors.push(required(child(path, "name")));
  else {
    const problem = dnsLabelProblem(container.name);
    if (problem !== undefined) errors.push(invalid(child(path, "name"), container.name, problem));
  }
  if (!container.image) errors.push(required(child(path, "image")));
  else if (container.image.trim() !== container.image)
    errors.push(invalid(child(path, "image"), container.image, "must not have leading or trailing whitespace"));
  errors.push(
    ...oneOf(child(path, "imagePullPolicy"), container.imagePullPolicy, ["Always", "IfNotPresent", "Never"], true),
  );
  errors.push(
    ...oneOf(child(path, "terminationMessagePolicy"), container.terminationMessagePolicy, [
      "FallbackToLogsOnError",
      "File",
    ]),
  );
  if (isInit) errors.push(...oneOf(child(path, "restartPolicy"), container.restartPolicy, ["Always"]));
  else if (container.restartPolicy !== undefined)
    errors.push(forbidden(child(path, "restartPolicy"), "may not be set for non-init containers"));
  if (isInit && container.restartPolicy !== "Always" && container.lifecycle !== undefined)
    errors.push(forbidden(child(path, "lifecycle"), "may not be set for init containers without restartPolicy=Always"));
  return errors.concat(
    validatePorts(container, path),
    validateEnv(container, path),
    validateMounts(container, path, volumes),
    validateResources(container, path),
    validateProbes(container, path, isInit),
  );
}
