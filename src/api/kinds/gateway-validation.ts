// What is wrong with a Gateway.

import { required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import type { Gateway } from "../types.ts";

export function validateGateway(object: Gateway): FieldError[] {
  return object.spec === undefined ? [required("spec")] : [];
}
