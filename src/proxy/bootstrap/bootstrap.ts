// An Envoy bootstrap file → the static resources it holds, or everything that is wrong with it, with file, line and field.

import { createRegistry } from "@bufbuild/protobuf";
import { type Bootstrap, BootstrapSchema } from "#gen/xds/envoy/config/bootstrap/v3/bootstrap_pb.js";
import type { Cluster } from "#gen/xds/envoy/config/cluster/v3/cluster_pb.js";
import type { Listener } from "#gen/xds/envoy/config/listener/v3/listener_pb.js";
import type { Secret } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { files } from "#gen/xds/extensions.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { socketAddress } from "../compile/any.ts";
import { checkResources } from "./check.ts";
import { decode } from "./decode.ts";
import { type ConfigDocument, type FieldPath, type Problem, parseDocumentText } from "./document.ts";

export interface StaticConfig {
  listeners: readonly Listener[];
  clusters: readonly Cluster[];
  secrets: readonly Secret[];
  admin: { host: string; port: number } | undefined;
  node: { id: string; cluster: string };
  /** For /config_dump. */
  bootstrap: Bootstrap;
  /** What the file asks for and nobody here does; "file:line:column: …". */
  notices: readonly string[];
}

/** What of the bootstrap is carried out; the rest is said to have no effect. */
const used = new Set(["node", "static_resources", "admin"]);
/** Shown at most; a broken file can have thousands. */
const problemsShownMax = 50;

/** Throws CONFIG_INVALID naming every problem. `file` is for messages. */
export function readBootstrap(
  text: string,
  file: string,
  environment: Readonly<Record<string, string | undefined>>,
): StaticConfig {
  const { document, problems: broken } = parseDocumentText(text);
  if (document === undefined)
    throw invalid(
      file,
      broken.map(({ at, message }) => `${file}:${at}: ${message}`),
    );
  const line = ({ path, message, fix }: Problem): string =>
    `${file}:${document.position(path)}: ${path.length > 0 ? `${pathText(path)}: ` : ""}${message}${fix ? ` (${fix})` : ""}`;
  const { value, unused, problems } = split(document);
  const decoded = decode(BootstrapSchema, value, { registry: createRegistry(...files), environment });
  problems.push(...decoded.problems);
  const { message: bootstrap } = decoded;
  if (bootstrap !== undefined) problems.push(...checkResources(nameListeners(bootstrap), value));
  if (bootstrap === undefined || problems.length > 0) throw invalid(file, problems.map(line).sort(numerically));
  const { listeners = [], clusters = [], secrets = [] } = bootstrap.staticResources ?? {};
  return {
    listeners,
    clusters,
    secrets,
    admin: bootstrap.admin?.address && socketAddress(bootstrap.admin.address, "admin"),
    node: { id: bootstrap.node?.id ?? "", cluster: bootstrap.node?.cluster ?? "" },
    bootstrap,
    notices: [...unused.map((key) => [key]), ...decoded.withoutEffect]
      .map((path) => line({ path, message: "has no effect here" }))
      .sort(numerically),
  };
}

/** Takes out what belongs to other ways of running Envoy. */
function split(document: ConfigDocument): { value: unknown; unused: string[]; problems: Problem[] } {
  const { value } = document;
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return {
      value: {},
      unused: [],
      problems: [
        { path: [], message: "must be a map with static_resources", fix: "see docs/proxy.md for a first file" },
      ],
    };
  const { dynamic_resources: dynamic, dynamicResources = dynamic, ...rest } = value as Record<string, unknown>;
  const problems: Problem[] = [];
  if (dynamicResources !== undefined)
    problems.push({
      path: [dynamic === undefined ? "dynamicResources" : "dynamic_resources"],
      message: "a proxy that runs alone takes no configuration from an xDS server",
      fix: "move the resources to static_resources; in a mesh, the control plane starts and configures its proxies",
    });
  const snake = (key: string): string => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const known = new Set(BootstrapSchema.fields.map(({ name }) => name));
  return {
    value: rest,
    unused: Object.keys(rest).filter((key) => known.has(snake(key)) && !used.has(snake(key))),
    problems,
  };
}

/** A listener may go without a name in Envoy; here its address is its name. */
function nameListeners(bootstrap: Bootstrap): Bootstrap {
  for (const listener of bootstrap.staticResources?.listeners ?? []) {
    const address = listener.address?.address;
    if (listener.name === "" && address?.case === "socketAddress") {
      const { address: host, portSpecifier } = address.value;
      listener.name = `${host}_${portSpecifier.value ?? ""}`;
    }
  }
  return bootstrap;
}

/** static_resources.listeners[0].name */
export function pathText(path: FieldPath): string {
  let text = "";
  for (const key of path)
    if (typeof key === "number") text += `[${key}]`;
    else text += /^\w+$/.test(key) ? `${text === "" ? "" : "."}${key}` : `[${JSON.stringify(key)}]`;
  return text;
}

/** "envoy.yaml:9:1" comes before "envoy.yaml:10:1". */
const numerically = (a: string, b: string): number => a.localeCompare(b, "en", { numeric: true });

function invalid(file: string, lines: readonly string[]): MeshbedError {
  const shown = lines.slice(0, problemsShownMax);
  if (lines.length > shown.length) shown.push(`… and ${lines.length - shown.length} more`);
  const count = lines.length === 1 ? "1 problem" : `${lines.length} problems`;
  return new MeshbedError("CONFIG_INVALID", `${file} has ${count}\n${shown.join("\n")}`);
}
