// ConfigMap, Secret and ServiceAccount.

import { forbidden, immutable, invalid, keyed, required, tooLong } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import { configKeyProblem } from "../names.ts";
import type { ConfigMap, Secret, ServiceAccount } from "../types.ts";
import { ageColumn, column, define, nameColumn } from "./define.ts";

/** All values of one ConfigMap or Secret together. */
const dataBytesMax = 1024 * 1024;

const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

const sizeOf = (map: object | undefined): number => Object.keys(map ?? {}).length;

function validateConfigMap(map: ConfigMap, old?: ConfigMap): FieldError[] {
  const errors: FieldError[] = [];
  let sizeBytes = 0;
  for (const [key, value] of Object.entries(map.data ?? {})) {
    const problem = configKeyProblem(key);
    if (problem !== undefined) errors.push(invalid(keyed("data", key), key, problem));
    if (map.binaryData !== undefined && Object.hasOwn(map.binaryData, key))
      errors.push(invalid(keyed("data", key), key, "duplicate of key present in binaryData"));
    sizeBytes += Buffer.byteLength(value);
  }
  for (const [key, value] of Object.entries(map.binaryData ?? {})) {
    const problem = configKeyProblem(key);
    if (problem !== undefined) errors.push(invalid(keyed("binaryData", key), key, problem));
    if (!base64.test(value)) errors.push(invalid(keyed("binaryData", key), "<binary>", "illegal base64 data"));
    sizeBytes += (value.length / 4) * 3;
  }
  if (sizeBytes > dataBytesMax) errors.push(tooLong("", dataBytesMax));
  if (old?.immutable === true) {
    if (map.immutable !== true) errors.push(forbidden("immutable", "field is immutable when `immutable` is set"));
    for (const field of ["data", "binaryData"] as const)
      if (immutable(field, map[field], old[field]).length > 0)
        errors.push(forbidden(field, "field is immutable when `immutable` is set"));
  }
  return errors;
}

export const configMapKind = define<ConfigMap>({
  group: "",
  version: "v1",
  kind: "ConfigMap",
  plural: "configmaps",
  shortNames: ["cm"],
  schemaName: "io.k8s.api.core.v1.ConfigMap",
  columns: [
    nameColumn,
    column("Data", (o) => String(sizeOf(o.data) + sizeOf(o.binaryData)), { description: "Number of entries" }),
    ageColumn,
  ],
  validate: validateConfigMap,
});

/** Keys a Secret of a well-known type must have. */
const requiredKeys: Record<string, string[]> = {
  "kubernetes.io/tls": ["tls.crt", "tls.key"],
  "kubernetes.io/dockercfg": [".dockercfg"],
  "kubernetes.io/dockerconfigjson": [".dockerconfigjson"],
  "kubernetes.io/ssh-auth": ["ssh-privatekey"],
};

function validateSecret(secret: Secret, old?: Secret): FieldError[] {
  const errors: FieldError[] = [];
  let sizeBytes = 0;
  for (const [key, value] of Object.entries(secret.data ?? {})) {
    const problem = configKeyProblem(key);
    if (problem !== undefined) errors.push(invalid(keyed("data", key), key, problem));
    if (!base64.test(value)) errors.push(invalid(keyed("data", key), "<secret>", "illegal base64 data"));
    sizeBytes += (value.length / 4) * 3;
  }
  if (sizeBytes > dataBytesMax) errors.push(tooLong("data", dataBytesMax));
  const type = secret.type ?? "Opaque";
  for (const key of Object.hasOwn(requiredKeys, type) ? requiredKeys[type]! : [])
    if (secret.data === undefined || !Object.hasOwn(secret.data, key)) errors.push(required(keyed("data", key)));
  if (type === "kubernetes.io/basic-auth" && !secret.data?.["username"] && !secret.data?.["password"])
    errors.push(required("data[username]"), required("data[password]"));
  if (
    type === "kubernetes.io/service-account-token" &&
    !secret.metadata.annotations?.["kubernetes.io/service-account.name"]
  )
    errors.push(required("metadata.annotations[kubernetes.io/service-account.name]"));
  if (old !== undefined) {
    errors.push(...immutable("type", type, old.type ?? "Opaque"));
    if (old.immutable === true) {
      if (secret.immutable !== true) errors.push(forbidden("immutable", "field is immutable when `immutable` is set"));
      if (immutable("data", secret.data, old.data).length > 0)
        errors.push(forbidden("data", "field is immutable when `immutable` is set"));
    }
  }
  return errors;
}

export const secretKind = define<Secret>({
  group: "",
  version: "v1",
  kind: "Secret",
  plural: "secrets",
  schemaName: "io.k8s.api.core.v1.Secret",
  columns: [
    nameColumn,
    column("Type", (o) => o.type ?? "", { description: "Used to facilitate programmatic handling of secret data." }),
    column("Data", (o) => String(sizeOf(o.data)), { description: "Number of entries" }),
    ageColumn,
  ],
  selectableFields: { type: (o) => o.type ?? "" },
  applyDefaults(o) {
    o.type ??= "Opaque";
    // stringData is write-only: it is merged over data and never stored.
    if (o.stringData === undefined) return;
    const data = { ...o.data };
    for (const [key, value] of Object.entries(o.stringData)) data[key] = Buffer.from(value, "utf8").toString("base64");
    o.data = data;
    delete o.stringData;
  },
  validate: validateSecret,
});

export const serviceAccountKind = define<ServiceAccount>({
  group: "",
  version: "v1",
  kind: "ServiceAccount",
  plural: "serviceaccounts",
  shortNames: ["sa"],
  schemaName: "io.k8s.api.core.v1.ServiceAccount",
  columns: [
    nameColumn,
    column("Secrets", (o) => String(o.secrets?.length ?? 0), { description: "Number of secrets" }),
    ageColumn,
  ],
});
