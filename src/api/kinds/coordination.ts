// Lease and EndpointSlice.

import { child, duplicate, inRange, invalid, notSupported, oneOf, required, sameValue } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { dnsLabelProblem } from "../names.ts";
import type { EndpointSlice, Lease } from "../types.ts";
import { ageColumn, column, define, nameColumn } from "./define.ts";

function validateLease({ spec }: Lease): FieldError[] {
  const errors: FieldError[] = [];
  if (spec?.leaseDurationSeconds !== undefined && spec.leaseDurationSeconds <= 0)
    errors.push(invalid("spec.leaseDurationSeconds", spec.leaseDurationSeconds, "must be greater than 0"));
  if (spec?.leaseTransitions !== undefined && spec.leaseTransitions < 0)
    errors.push(invalid("spec.leaseTransitions", spec.leaseTransitions, "must be greater than or equal to 0"));
  return errors;
}

export const leaseKind = define<Lease>({
  group: "coordination.k8s.io",
  version: "v1",
  kind: "Lease",
  plural: "leases",
  schemaName: "io.k8s.api.coordination.v1.Lease",
  columns: [nameColumn, column("Holder", (o) => o.spec?.holderIdentity ?? ""), ageColumn],
  validate: validateLease,
});

/** discovery.k8s.io limits of one slice. */
const endpointsMax = 1000;
const addressesMax = 100;
const portsMax = 20_000;

/** How many ports or endpoints a cell names before it only counts. */
const shownMax = 3;

function shorten(list: readonly string[]): string {
  if (list.length === 0) return "<unset>";
  const text = list.slice(0, shownMax).join(",");
  return list.length > shownMax ? `${text} + ${list.length - shownMax} more...` : text;
}

function isIPv4(text: string): boolean {
  return /^(\d{1,3})(\.\d{1,3}){3}$/.test(text) && text.split(".").every((part) => Number(part) <= 255);
}

function validateAddress(address: string, type: string, path: string): FieldError[] {
  if (type === "IPv4" && !isIPv4(address)) return [invalid(path, address, "must be a valid IPv4 address")];
  if (type === "IPv6" && !address.includes(":")) return [invalid(path, address, "must be a valid IPv6 address")];
  return [];
}

function validateSlice(slice: EndpointSlice, old?: EndpointSlice): FieldError[] {
  const errors = oneOf("addressType", slice.addressType, ["FQDN", "IPv4", "IPv6"], true);
  if (old !== undefined && !sameValue(slice.addressType, old.addressType))
    errors.push(invalid("addressType", slice.addressType, "field is immutable"));
  const endpoints = slice.endpoints ?? [];
  errors.push(...inRange("endpoints", endpoints.length, 0, endpointsMax));
  endpoints.forEach((endpoint, i) => {
    const path = child("endpoints", i, "addresses");
    if (!endpoint.addresses?.length) errors.push(required(path, "must contain at least 1 address"));
    errors.push(...inRange(path, endpoint.addresses?.length, 0, addressesMax));
    endpoint.addresses?.forEach((address, j) => {
      errors.push(...validateAddress(address, slice.addressType, child(path, j)));
    });
  });
  const names = new Set<string>();
  errors.push(...inRange("ports", slice.ports?.length, 0, portsMax));
  slice.ports?.forEach((port, i) => {
    const path = child("ports", i);
    const name = port.name ?? "";
    if (names.has(name)) errors.push(duplicate(child(path, "name"), name));
    names.add(name);
    const problem = name === "" ? undefined : dnsLabelProblem(name);
    if (problem !== undefined) errors.push(invalid(child(path, "name"), name, problem));
    errors.push(...inRange(child(path, "port"), port.port, 1, 65535));
    const protocols = ["SCTP", "TCP", "UDP"];
    if (!protocols.includes(port.protocol ?? "TCP"))
      errors.push(notSupported(child(path, "protocol"), port.protocol, protocols));
  });
  return errors;
}

export const endpointSliceKind = define<EndpointSlice>({
  group: "discovery.k8s.io",
  version: "v1",
  kind: "EndpointSlice",
  plural: "endpointslices",
  schemaName: "io.k8s.api.discovery.v1.EndpointSlice",
  columns: [
    nameColumn,
    column("AddressType", (o) => o.addressType ?? ""),
    column("Ports", (o) => shorten((o.ports ?? []).map((port) => String(port.port ?? port.name ?? "*")))),
    column("Endpoints", (o) => shorten((o.endpoints ?? []).flatMap((endpoint) => endpoint.addresses))),
    ageColumn,
  ],
  applyDefaults(o) {
    for (const port of o.ports ?? []) {
      port.name ??= "";
      port.protocol ??= "TCP";
    }
  },
  validate: validateSlice,
});
