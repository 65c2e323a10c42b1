// What is wrong with a VirtualService (Istio pkg/config/validation ValidateVirtualService).

import { child, duplicate, forbidden, inRange, invalid, notSupported, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { dnsLabelProblem } from "../names.ts";
import type { VirtualService } from "../types.ts";
import { type HttpRoute, validateHttpActions } from "./http-route-validation.ts";
import {
  fqdnProblem,
  isAddress,
  isClaim,
  isSubnet,
  validateDestination,
  validateExportTo,
  validateHeaderName,
  validateHost,
  validateRequired,
  validateStringMatch,
  validateWeights,
} from "./istio-rules.ts";
import { validateLabels } from "./metadata.ts";

type Spec = NonNullable<VirtualService["spec"]>;
type Match = NonNullable<HttpRoute["match"]>[number];
type L4Match = {
  port?: number;
  destinationSubnets?: string[];
  gateways?: string[];
  sourceLabels?: Record<string, string>;
};

const httpMethods = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

function validateGatewayNames(gateways: readonly string[] | undefined, path: string): FieldError[] {
  const errors: FieldError[] = [];
  gateways?.forEach((name, i) => {
    if (name === "mesh") return;
    const parts = name.split("/");
    const problem =
      parts.length > 2
        ? "config name must be of form <namespace>/<name>"
        : parts.length === 2
          ? parts.map(dnsLabelProblem).find((each) => each)
          : fqdnProblem(name);
    if (problem !== undefined) errors.push(invalid(child(path, i), name, problem));
  });
  return errors;
}

function validateHosts(spec: Spec): FieldError[] {
  const errors: FieldError[] = [];
  const hosts = spec.hosts ?? [];
  const isMesh = spec.gateways === undefined || spec.gateways.length === 0 || spec.gateways.includes("mesh");
  hosts.forEach((host, i) => {
    const path = child("spec.hosts", i);
    if (!isAddress(host)) errors.push(...validateHost(host, path));
    if (host === "*" && isMesh)
      errors.push(invalid(path, host, "wildcard host * is not allowed for virtual services bound to the mesh gateway"));
    // Also one that a wildcard of the same rule covers.
    const isDouble = hosts.some((other, j) => (j < i ? covers(other, host) || covers(host, other) : false));
    if (isDouble) errors.push(duplicate(path, host));
  });
  // Without hosts it is a delegate: another VirtualService says where it applies.
  if (hosts.length === 0) {
    if (spec.gateways?.length)
      errors.push(forbidden("spec.gateways", "delegate virtual service must have no gateways specified"));
    for (const protocol of ["tls", "tcp"] as const)
      if (spec[protocol]?.length)
        errors.push(forbidden(`spec.${protocol}`, `delegate virtual service must have no ${protocol} specified`));
  }
  return errors;
}

/** Where the rule stands decides what its matches may say. */
interface Place {
  isDelegating: boolean;
  onlyGateways: boolean;
}

function validateMatch(match: Match, path: string, { isDelegating, onlyGateways }: Place): FieldError[] {
  const errors: FieldError[] = [];
  for (const field of ["uri", "scheme", "method", "authority"] as const)
    errors.push(...validateStringMatch(match[field], child(path, field)));
  if (isDelegating)
    for (const at of regexFields(match))
      errors.push(forbidden(`${path}.${at}`, "regex match is not supported for delegating"));
  const method = match.method?.exact;
  if (
    method !== undefined &&
    method.toUpperCase() === method &&
    !httpMethods.includes(method) &&
    !/^[A-Z][A-Z-]*$/.test(method)
  )
    errors.push(notSupported(child(path, "method", "exact"), method, httpMethods));
  for (const field of ["headers", "withoutHeaders"] as const)
    for (const [name, pattern] of Object.entries(match[field] ?? {})) {
      const at = `${child(path, field)}[${name}]`;
      errors.push(...(isClaim(name) ? [] : validateHeaderName(name, at)), ...validateStringMatch(pattern, at));
      if (isClaim(name) && !onlyGateways)
        errors.push(forbidden(at, `JWT claim based routing (key: ${name}) is only supported for gateway`));
    }
  for (const [name, pattern] of Object.entries(match.queryParams ?? {}))
    errors.push(...validateStringMatch(pattern, `${child(path, "queryParams")}[${name}]`));
  if (match.port !== undefined) errors.push(...inRange(child(path, "port"), match.port, 1, 65535));
  errors.push(...validateLabels(match.sourceLabels, child(path, "sourceLabels")));
  errors.push(...validateGatewayNames(match.gateways, child(path, "gateways")));
  const problem = match.sourceNamespace ? dnsLabelProblem(match.sourceNamespace) : undefined;
  if (problem !== undefined) errors.push(invalid(child(path, "sourceNamespace"), match.sourceNamespace, problem));
  return errors;
}

/** Paths of the regular expressions in a match. */
function regexFields(match: Match): string[] {
  const single = (["uri", "scheme", "method", "authority"] as const).filter((field) => isRegex(match[field]));
  const maps = (["headers", "withoutHeaders", "queryParams"] as const).flatMap((field) =>
    Object.entries(match[field] ?? {}).flatMap(([name, pattern]) => (isRegex(pattern) ? `${field}[${name}]` : [])),
  );
  return [...single, ...maps];
}

const isRegex = (match: object | undefined): boolean => match !== undefined && "regex" in match;

function validateHttpRoute(route: HttpRoute, path: string, isDelegate: boolean, onlyGateways: boolean): FieldError[] {
  const errors: FieldError[] = [];
  const actions = (["route", "redirect", "directResponse"] as const).filter((field) =>
    field === "route" ? (route.route?.length ?? 0) > 0 : route[field] !== undefined,
  );
  if (route.delegate !== undefined) {
    if (isDelegate) errors.push(forbidden(child(path, "delegate"), "delegate virtual service cannot delegate again"));
    for (const field of actions)
      errors.push(forbidden(child(path, field), `root HTTP route must not have ${field} together with delegate`));
    if (!route.delegate.name) errors.push(required(child(path, "delegate", "name")));
  } else if (actions.length === 0) errors.push(required(path, "HTTP route, redirect or direct_response is required"));
  for (const extra of actions.slice(1))
    errors.push(forbidden(child(path, extra), `HTTP route cannot contain both ${actions[0]} and ${extra}`));
  const place = { isDelegating: isDelegate || route.delegate !== undefined, onlyGateways };
  route.match?.forEach((match, i) => {
    errors.push(...validateMatch(match, child(path, "match", i), place));
  });
  route.route?.forEach((each, i) => {
    errors.push(...validateDestination(each.destination, child(path, "route", i, "destination")));
  });
  errors.push(...validateWeights(route.route ?? [], child(path, "route")));
  return errors.concat(validateHttpActions(route, path));
}

function validateL4Match(match: L4Match, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (match.port !== undefined) errors.push(...inRange(child(path, "port"), match.port, 1, 65535));
  match.destinationSubnets?.forEach((subnet, i) => {
    if (!isSubnet(subnet))
      errors.push(invalid(child(path, "destinationSubnets", i), subnet, "is not a valid CIDR block"));
  });
  errors.push(...validateLabels(match.sourceLabels, child(path, "sourceLabels")));
  errors.push(...validateGatewayNames(match.gateways, child(path, "gateways")));
  return errors;
}

/** Whether every name `sni` stands for is also one `host` stands for. */
function covers(host: string, sni: string): boolean {
  if (host === "*" || host === sni) return true;
  return host.startsWith("*") && sni.replace(/^\*/, "").endsWith(host.slice(1));
}

function validateTcpAndTls(spec: Spec): FieldError[] {
  const errors: FieldError[] = [];
  for (const protocol of ["tcp", "tls"] as const)
    spec[protocol]?.forEach((rule, i) => {
      const path = child(`spec.${protocol}`, i);
      if (!rule.route?.length)
        errors.push(required(child(path, "route"), `${protocol.toUpperCase()} route is required`));
      rule.route?.forEach((each, j) => {
        errors.push(...validateDestination(each.destination, child(path, "route", j, "destination")));
      });
      errors.push(...validateWeights(rule.route ?? [], child(path, "route")));
      rule.match?.forEach((match, j) => {
        errors.push(...validateL4Match(match, child(path, "match", j)));
      });
    });
  spec.tls?.forEach((rule, i) => {
    const path = child("spec.tls", i, "match");
    if (!rule.match?.length) errors.push(required(path, "TLS match is required"));
    rule.match?.forEach((match, j) => {
      const at = child(path, j, "sniHosts");
      if (!match.sniHosts?.length) errors.push(required(at, "TLS match must have at least one SNI host"));
      match.sniHosts?.forEach((sni, k) => {
        // An address is warned about.
        if (isAddress(sni)) return;
        errors.push(...validateHost(sni, child(at, k)));
        if (!(spec.hosts ?? []).some((host) => covers(host, sni)))
          errors.push(
            invalid(
              child(at, k),
              sni,
              `SNI host ${JSON.stringify(sni)} is not a compatible subset of any of the virtual service hosts: [${(spec.hosts ?? []).join(", ")}]`,
            ),
          );
      });
    });
  });
  return errors;
}

export function validateVirtualService(object: VirtualService): FieldError[] {
  const missing = validateRequired(object, "io.istio.networking.v1.VirtualService");
  if (missing.length > 0) return missing;
  const spec = object.spec!;
  const errors = [...validateHosts(spec), ...validateGatewayNames(spec.gateways, "spec.gateways")];
  if (!spec.http?.length && !spec.tls?.length && !spec.tcp?.length)
    errors.push(required("spec", "http, tcp or tls must be provided in virtual service"));
  const isDelegate = !spec.hosts?.length;
  const onlyGateways = Boolean(spec.gateways?.length) && !spec.gateways!.includes("mesh");
  const names = new Set<string>();
  spec.http?.forEach((route, i) => {
    const path = child("spec.http", i);
    if (route.name && names.has(route.name)) errors.push(duplicate(child(path, "name"), route.name));
    names.add(route.name ?? "");
    errors.push(...validateHttpRoute(route, path, isDelegate, onlyGateways));
  });
  return errors.concat(
    validateTcpAndTls(spec),
    validateExportTo(spec.exportTo, { namespace: object.metadata.namespace }),
  );
}
