// What is wrong with a DestinationRule.

import { required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import type { DestinationRule } from "../types.ts";

export function validateDestinationRule(object: DestinationRule): FieldError[] {
  return object.spec === undefined ? [required("spec")] : [];
}
