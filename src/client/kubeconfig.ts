// Reads kubeconfig files: the current context's server, CA and client certificate, embedded or as files beside it.

import { dirname, resolve } from "node:path";
import { MeshbedError, messageOf } from "../kernel/errors.ts";

export interface Kubeconfig {
  server: string;
  caPem: string;
  certPem?: string;
  keyPem?: string;
  /** Of the context; "default" when it names none. */
  namespace: string;
}

interface KubeconfigFile {
  "current-context"?: string;
  contexts?: { name: string; context?: { cluster?: string; user?: string; namespace?: string } }[];
  clusters?: { name: string; cluster?: Record<string, string | undefined> }[];
  users?: { name: string; user?: Record<string, string | undefined> }[];
}

/** Throws KUBECONFIG_INVALID with the file's name and what is missing. */
export async function loadKubeconfig(path: string): Promise<Kubeconfig> {
  let file: KubeconfigFile | null;
  try {
    file = Bun.YAML.parse(await Bun.file(path).text()) as KubeconfigFile | null;
  } catch (error) {
    throw invalid(path, messageOf(error));
  }
  const contextName = file?.["current-context"];
  const context = named(path, "context", file?.contexts, contextName).context;
  const cluster = named(path, "cluster", file?.clusters, context?.cluster).cluster ?? {};
  const user = named(path, "user", file?.users, context?.user).user ?? {};
  const server = cluster["server"];
  if (server === undefined || server === "") throw invalid(path, "the cluster has no server");
  const caPem = await pem(path, cluster, "certificate-authority");
  if (caPem === undefined) throw invalid(path, "the cluster has no certificate-authority-data");
  const certPem = await pem(path, user, "client-certificate");
  const keyPem = await pem(path, user, "client-key");
  return {
    server: server.replace(/\/+$/, ""),
    caPem,
    ...(certPem !== undefined && { certPem }),
    ...(keyPem !== undefined && { keyPem }),
    namespace: context?.namespace ?? "default",
  };
}

function named<T extends { name: string }>(path: string, what: string, list: T[] | undefined, name?: string): T {
  if (name === undefined || name === "") throw invalid(path, `no ${what} is selected`);
  const found = list?.find((entry) => entry.name === name);
  if (!found) throw invalid(path, `${what} "${name}" is not in the file`);
  return found;
}

/** `field`-data (base64) wins over `field` (a file, relative to the kubeconfig), as in kubectl. */
async function pem(path: string, fields: Record<string, string | undefined>, field: string) {
  const data = fields[`${field}-data`];
  if (data !== undefined && data !== "") return Buffer.from(data, "base64").toString("utf8");
  const file = fields[field];
  if (file === undefined || file === "") return undefined;
  try {
    return await Bun.file(resolve(dirname(path), file)).text();
  } catch (error) {
    throw invalid(path, `${field}: ${messageOf(error)}`);
  }
}

const invalid = (path: string, message: string) =>
  new MeshbedError("KUBECONFIG_INVALID", `${path}: ${message}`, {
    fix: "point --kubeconfig or KUBECONFIG at a valid file",
  });
