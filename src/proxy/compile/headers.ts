// Envoy's HeaderValueOption lists → rules for the data path. Values may hold command operators (%…%).

import {
  HeaderValueOption_HeaderAppendAction as AppendAction,
  type HeaderValueOption,
} from "#gen/xds/envoy/config/core/v3/base_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { compileHeaderValue } from "../log/formatter.ts";
import type { HeaderAddition, HeaderRules } from "../routing/route.ts";

export function compileHeaderRules(
  add: readonly HeaderValueOption[],
  remove: readonly string[],
): HeaderRules | undefined {
  if (add.length === 0 && remove.length === 0) return undefined;
  return { add: compileAdditions(add), remove: remove.map((name) => name.toLowerCase()) };
}

export const compileAdditions = (options: readonly HeaderValueOption[]): HeaderAddition[] => options.map(additionOf);

function additionOf(option: HeaderValueOption): HeaderAddition {
  const name = option.header?.key.toLowerCase() ?? "";
  const text = option.header?.value || Buffer.from(option.header?.rawValue ?? []).toString("latin1");
  if (!/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name) || /[^\t\x20-\x7e\x80-\xff]/.test(text))
    throw new MeshbedError("HEADER_INVALID", `header ${JSON.stringify(name)} cannot be added with this value`);
  return { name, value: compileHeaderValue(text), mode: modeOf(option), keepEmpty: option.keepEmptyValue };
}

/** The deprecated boolean wins when it is there, as in Envoy. */
function modeOf({ append, appendAction }: HeaderValueOption): HeaderAddition["mode"] {
  if (append !== undefined) return append ? "append" : "overwrite";
  switch (appendAction) {
    case AppendAction.ADD_IF_ABSENT:
      return "absent";
    case AppendAction.OVERWRITE_IF_EXISTS:
      return "present";
    case AppendAction.OVERWRITE_IF_EXISTS_OR_ADD:
      return "overwrite";
    default:
      return "append";
  }
}
