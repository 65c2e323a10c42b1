// Refusals of the API: one constructor each for the Status answers of apimachinery's errors package, and the translation of any throw.

import type { FieldError, KindDefinition } from "../api/kind.ts";
import type { Status } from "../api/object.ts";
import { MeshbedError, messageOf } from "../kernel/errors.ts";

/** Thrown anywhere below the request core; becomes the answer. */
export class ApiFailure extends MeshbedError {
  readonly status: Status & { code: number };

  constructor(code: number, reason: string, message: string, details?: Status["details"]) {
    super(`API_${reason.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase()}`, message);
    this.status = {
      apiVersion: "v1",
      kind: "Status",
      metadata: {},
      status: "Failure",
      message,
      reason,
      ...(details && { details }),
      code,
    };
  }
}

type Named = Pick<KindDefinition, "group" | "plural" | "kind">;

const qualified = (name: string, group: string) => (group === "" ? name : `${name}.${group}`);
const detailsOf = (kind: Named, name: string): NonNullable<Status["details"]> => ({
  name,
  ...(kind.group !== "" && { group: kind.group }),
  kind: kind.plural,
});

export const badRequest = (message: string) => new ApiFailure(400, "BadRequest", message);

export const unauthorized = () => new ApiFailure(401, "Unauthorized", "Unauthorized");

export const notFound = (kind: Named, name: string) =>
  new ApiFailure(404, "NotFound", `${qualified(kind.plural, kind.group)} "${name}" not found`, detailsOf(kind, name));

/** No such path or resource. */
export const unknownResource = () =>
  new ApiFailure(404, "NotFound", "the server could not find the requested resource");

export const methodNotAllowed = () =>
  new ApiFailure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");

export const notAcceptable = () =>
  new ApiFailure(
    406,
    "NotAcceptable",
    "only the following media types are accepted: application/json, application/yaml",
  );

export const alreadyExists = (kind: Named, name: string) =>
  new ApiFailure(
    409,
    "AlreadyExists",
    `${qualified(kind.plural, kind.group)} "${name}" already exists`,
    detailsOf(kind, name),
  );

export const conflict = (kind: Named, name: string, why: string) =>
  new ApiFailure(
    409,
    "Conflict",
    `Operation cannot be fulfilled on ${qualified(kind.plural, kind.group)} "${name}": ${why}`,
    detailsOf(kind, name),
  );

export const modifiedConflict = (kind: Named, name: string) =>
  conflict(kind, name, "the object has been modified; please apply your changes to the latest version and try again");

export const forbidden = (kind: Named, name: string, why: string, causes?: { reason: string; message: string }[]) =>
  new ApiFailure(403, "Forbidden", `${qualified(kind.plural, kind.group)} "${name}" is forbidden: ${why}`, {
    ...detailsOf(kind, name),
    ...(causes && { causes }),
  });

export const expired = (message: string) => new ApiFailure(410, "Expired", message);

export const tooLarge = (limitBytes: number) =>
  new ApiFailure(413, "RequestEntityTooLarge", `limit is ${limitBytes} bytes`);

export const unsupportedMediaType = (message: string) => new ApiFailure(415, "UnsupportedMediaType", message);

export const unavailable = (message: string) => new ApiFailure(503, "ServiceUnavailable", message);

export const revisionTooLarge = (asked: number, current: number) =>
  new ApiFailure(504, "Timeout", `Too large resource version: ${asked}, current: ${current}`, {
    causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }],
    retryAfterSeconds: 1,
  });

/** 422 with one cause per wrong field. */
export function invalid(kind: Named, name: string, errors: readonly FieldError[]): ApiFailure {
  const lines = errors.map((error) => `${error.field}: ${error.message}`);
  const summary = lines.length === 1 ? lines[0] : `[${lines.join(", ")}]`;
  return new ApiFailure(422, "Invalid", `${qualified(kind.kind, kind.group)} "${name}" is invalid: ${summary}`, {
    name,
    ...(kind.group !== "" && { group: kind.group }),
    kind: kind.kind,
    causes: errors.map(({ reason, message, field }) => ({ reason, message, field })),
  });
}

/** The one place where anything thrown becomes a Status. */
export function statusOf(error: unknown): Status & { code: number } {
  if (error instanceof ApiFailure) return error.status;
  const code = error instanceof MeshbedError ? error.code : "";
  if (code === "SELECTOR_INVALID" || code === "QUANTITY_INVALID") return badRequest(messageOf(error)).status;
  if (code.startsWith("STORE_")) return unavailable(messageOf(error)).status;
  return new ApiFailure(500, "InternalError", `Internal error occurred: ${messageOf(error)}`).status;
}
