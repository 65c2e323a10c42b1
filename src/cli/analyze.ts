// `meshbed analyze`: what is wrong with manifests, or with what runs, before requests find out. Exit code 79 when there is something.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { stringify } from "yaml";
import type { KubeObject } from "../api/object.ts";
import * as resources from "../api/resources.ts";
import { createClient } from "../client/client.ts";
import { httpTransport } from "../client/http.ts";
import { loadKubeconfig } from "../client/kubeconfig.ts";
import { basicManifests } from "../cluster/basics.ts";
import { statePaths } from "../cluster/config.ts";
import { readManifests } from "../cluster/manifests.ts";
import { requireRunning } from "../cluster/state.ts";
import { gatewaySecretName } from "../cluster/tls-secret.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { analyze } from "../mesh/analysis/analyze.ts";
import { idOf } from "../mesh/analysis/cluster.ts";
import { readText, type Source, type Unreadable } from "../mesh/analysis/sources.ts";
import { type Level, levels } from "../mesh/analysis/types.ts";
import { type Manifested, stored } from "../mesh/offline.ts";
import { noObjects } from "../mesh/translator.ts";
import {
  countText,
  type Format,
  formatList,
  formatText,
  levelOf,
  type Placed,
  toGithub,
  toJson,
  toSarif,
} from "./analyze-format.ts";
import { paint } from "./terminal.ts";

export interface AnalyzeOptions {
  useTestbed: boolean;
  recursive: boolean;
  namespace?: string;
  output: Format;
  failureThreshold: Level;
  outputThreshold: Level;
  suppress: string[];
  list: boolean;
  state: string;
}

/** This file is in src/cli/, or bundled in dist/<stamp>/. */
const projectRoot = resolve(import.meta.dir, "../..");

/** As istioctl: analysis found something; a file cannot be read. */
const exitCodes = { findings: 79, unreadable: 65 } as const;

const filesMax = 10_000;
const fileSizeBytesMax = 8 * 1024 * 1024;
const requestTimeoutMs = 10_000;

export async function analyzeVerb(paths: readonly string[], options: AnalyzeOptions): Promise<void> {
  if (options.list) {
    for (const line of formatList()) console.log(line);
    return;
  }
  const { sources, unreadable, files } = read(paths, options.recursive);
  const live = paths.length === 0 || options.useTestbed ? await readTestbed(options.state) : undefined;
  const placeOf = new Map(sources.map((source) => [idOf(stored(source.object)), source]));
  const own = sources.map(({ object }) => object);
  const findings = analyze({
    objects: paths.length === 0 ? (live ?? []).filter(isOwn) : own,
    around: live ?? made(own),
    suppress: options.suppress,
  });
  const all = [...unreadable.map(unreadableFinding), ...findings.map(place)].sort(byPlace);
  const placed = all.filter(
    (finding) =>
      levels[levelOf(finding)] >= levels[options.outputThreshold] &&
      (options.namespace === undefined || [undefined, options.namespace].includes(finding.subject.metadata.namespace)),
  );
  print(options.output, placed, () => summary(placed, files, paths.length === 0 ? live?.length : undefined));
  const fails = placed.some((finding) => levels[levelOf(finding)] >= levels[options.failureThreshold]);
  if (unreadable.length > 0) process.exitCode = exitCodes.unreadable;
  else if (fails) process.exitCode = exitCodes.findings;

  function place(finding: (typeof findings)[number]): Placed {
    return { ...finding, position: placeOf.get(idOf(finding.subject))?.at(finding.field) };
  }
}

/** The worst first, then as one reads: by file and line. Stable for objects without a place. */
function byPlace(a: Placed, b: Placed): number {
  const order = levels[levelOf(b)] - levels[levelOf(a)];
  if (order !== 0) return order;
  const [x, y] = [a.position, b.position];
  if (x === undefined || y === undefined) return 0;
  return x.file === y.file ? x.line - y.line || x.column - y.column : x.file < y.file ? -1 : 1;
}

/** What the testbed brings by itself, so that manifests may refer to it. */
function made(own: readonly Manifested[]): KubeObject[] {
  const secret = { apiVersion: "v1", kind: "Secret", metadata: { name: gatewaySecretName, namespace: "istio-system" } };
  const basics = basicManifests(projectRoot, own).flatMap(readManifests);
  return [secret, ...basics.map(({ object }) => object as Manifested)].map(stored);
}

/** Not what the system made: Pods, their ReplicaSets and slices are seen, and reported on through what owns them. */
const isOwn = ({ kind, metadata }: KubeObject): boolean =>
  !["Node", "EndpointSlice", "ReplicaSet"].includes(kind) && !metadata.ownerReferences?.length;

function read(
  paths: readonly string[],
  recursive: boolean,
): { sources: Source[]; unreadable: Unreadable[]; files: number } {
  const sources: Source[] = [];
  const unreadable: Unreadable[] = [];
  let files = 0;
  const take = (text: string, file: string, lenient: boolean): void => {
    const found = readText(text, file, lenient);
    sources.push(...found.sources);
    unreadable.push(...found.unreadable);
    files++;
  };
  for (const path of paths) {
    if (path === "-") {
      take(readFileSync(0, "utf8"), "stdin", false);
      continue;
    }
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined)
      throw new MeshbedError("MANIFEST_NOT_FOUND", `${path}: no such file or folder`, {
        fix: 'give files or folders with Kubernetes manifests, or "-" for standard input',
      });
    if (!stat.isDirectory()) take(readLimited(path), path, false);
    else {
      const found = manifestsUnder(path, recursive);
      if (found.length === 0)
        throw new MeshbedError("MANIFEST_NOT_FOUND", `${path}: no .yaml, .yml or .json file in this folder`, {
          fix: recursive ? undefined : "add -R to look into the folders below",
        });
      for (const file of found) take(readLimited(file), file, true);
    }
  }
  return { sources, unreadable, files };
}

function readLimited(file: string): string {
  const { size } = statSync(file);
  if (size > fileSizeBytesMax)
    throw new MeshbedError("MANIFEST_INVALID", `${file}: ${size} bytes, at most ${fileSizeBytesMax}`);
  return readFileSync(file, "utf8");
}

/** YAML and JSON files; not those of tools, nor what git and npm keep. */
function manifestsUnder(folder: string, recursive: boolean): string[] {
  const files: string[] = [];
  const walk = (path: string): void => {
    for (const entry of readdirSync(path, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
      if (entry.name.startsWith(".") || entry.name === "node_modules") continue;
      const full = join(path, entry.name);
      if (entry.isDirectory()) {
        if (recursive) walk(full);
      } else if (
        /\.(ya?ml|json)$/.test(entry.name) &&
        !/^(kustomization|meshbed|package(-lock)?|tsconfig)\./.test(entry.name)
      )
        files.push(full);
      if (files.length > filesMax)
        throw new MeshbedError("MANIFEST_INVALID", `${folder}: more than ${filesMax} files`, {
          fix: "give a narrower path",
        });
    }
  };
  walk(folder);
  return files;
}

const unreadableFinding = ({ position, message }: Unreadable): Placed => ({
  code: "MB0001",
  subject: stored({ apiVersion: "v1", kind: "File", metadata: { name: position.file, namespace: "" } }),
  field: "",
  message,
  fix: undefined,
  position,
});

/** Everything the analysis looks at, as the API server has it. */
async function readTestbed(state: string): Promise<KubeObject[]> {
  requireRunning(state);
  const client = createClient(
    httpTransport({ ...(await loadKubeconfig(statePaths(state).kubeconfig)), requestTimeoutMs }),
  );
  const kinds = Object.entries(resources).flatMap(([key, resource]) =>
    typeof resource === "object" && key in noObjects ? [resource as resources.Resource] : [],
  );
  const lists = await Promise.all(
    [...kinds, resources.deployments, resources.replicaSets].map(async (resource) => {
      const { items } = await client.list<KubeObject>(resource as resources.Resource);
      const apiVersion = resources.apiVersionOf(resource as resources.Resource);
      return items.map((item) => ({ ...item, apiVersion, kind: resource.kind }));
    }),
  );
  return lists.flat();
}

function print(output: Format, findings: readonly Placed[], summarize: () => string): void {
  switch (output) {
    case "json":
      console.log(JSON.stringify(findings.map(toJson), null, 2));
      return;
    case "yaml":
      console.log(stringify(findings.map(toJson)).trimEnd());
      return;
    case "sarif":
      console.log(JSON.stringify(toSarif(findings), null, 2));
      return;
    case "github":
      for (const finding of findings) console.log(toGithub(finding));
      return;
    default:
      for (const line of formatText(findings)) console.log(line);
      console.log(summarize());
  }
}

function summary(findings: readonly Placed[], files: number, objects: number | undefined): string {
  const where = objects === undefined ? `${files} file${files === 1 ? "" : "s"}` : `${objects} objects of the testbed`;
  return findings.length === 0
    ? `${paint.green("✓")} no issues found in ${where}`
    : `${countText(findings)} in ${where}`;
}
