// What is wrong with a VirtualService.

import { required } from "../field-errors.ts";
import type { FieldError } from "../kind.ts";
import type { VirtualService } from "../types.ts";

export function validateVirtualService(object: VirtualService): FieldError[] {
  return object.spec === undefined ? [required("spec")] : [];
}
