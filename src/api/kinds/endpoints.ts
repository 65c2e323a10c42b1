// Endpoints: the older form of EndpointSlice, kept for `kubectl get endpoints` and clients that still read it.

import { child, inRange, required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import type { Endpoints } from "../types.ts";
import { ageColumn, column, define, nameColumn } from "./define.ts";

/** How many addresses a cell names before it only counts. */
const shownMax = 3;

function addressesOf(object: Endpoints): string {
  const all: string[] = [];
  for (const { addresses, ports } of object.subsets ?? [])
    for (const { ip } of addresses ?? [])
      if (ports === undefined || ports.length === 0) all.push(ip);
      else for (const { port } of ports) all.push(`${ip}:${port}`);
  if (all.length === 0) return "<none>";
  const text = all.slice(0, shownMax).join(",");
  return all.length > shownMax ? `${text} + ${all.length - shownMax} more...` : text;
}

function validateEndpoints({ subsets }: Endpoints): FieldError[] {
  const errors: FieldError[] = [];
  subsets?.forEach(({ addresses, notReadyAddresses, ports }, i) => {
    const path = child("subsets", i);
    if (!addresses?.length && !notReadyAddresses?.length)
      errors.push(required(path, "must specify `addresses` or `notReadyAddresses`"));
    ports?.forEach(({ port }, j) => {
      errors.push(...inRange(child(path, "ports", j, "port"), port, 1, 65535));
    });
  });
  return errors;
}

export const endpointsKind = define<Endpoints>({
  group: "",
  version: "v1",
  kind: "Endpoints",
  plural: "endpoints",
  shortNames: ["ep"],
  schemaName: "io.k8s.api.core.v1.Endpoints",
  columns: [nameColumn, column("Endpoints", addressesOf), ageColumn],
  applyDefaults(o) {
    for (const { ports } of o.subsets ?? []) for (const port of ports ?? []) port.protocol ??= "TCP";
  },
  validate: validateEndpoints,
});
