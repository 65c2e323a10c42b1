// Envoy's DataSource: text that stands in the message, in a file or in an environment variable.

import { readFileSync } from "node:fs";
import type { DataSource } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import { MeshbedError, messageOf } from "../../kernel/errors.ts";

/** `owner` names the resource and field in errors. A file is read once, relative to the working folder. */
export function dataText(source: DataSource | undefined, owner: string): string {
  const specifier = source?.specifier;
  switch (specifier?.case) {
    case "inlineString":
      return specifier.value;
    case "inlineBytes":
      return Buffer.from(specifier.value).toString();
    case "filename":
      try {
        return readFileSync(specifier.value, "utf8");
      } catch (cause) {
        throw new MeshbedError("DATA_SOURCE_UNREADABLE", `${owner}: ${messageOf(cause)}`, { cause });
      }
    case "environmentVariable": {
      const text = process.env[specifier.value];
      if (text !== undefined) return text;
      throw new MeshbedError("DATA_SOURCE_UNREADABLE", `${owner}: environment variable ${specifier.value} is not set`);
    }
    default:
      throw new MeshbedError("DATA_SOURCE_INVALID", `${owner}: no data`);
  }
}
