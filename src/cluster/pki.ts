// The cluster's certificates in <state>/pki: made on first start, kept across starts, renewed before they expire.

import { X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Authority, type CertificateRequest, createAuthority, loadAuthority } from "../identity/authority.ts";
import type { Clock } from "../kernel/clock.ts";
import { apiServiceAddress, type ClusterConfig, clusterDomain, masterOf, statePaths } from "./config.ts";

const dayMs = 86_400_000;
const lifetimeMs = 365 * dayMs;
const renewBeforeMs = 30 * dayMs;

export interface KeyPair {
  certPem: string;
  keyPem: string;
}

/** Reads `<name>.crt` and `<name>.key`. */
export function readKeyPair(pkiDir: string, name: string): KeyPair {
  return {
    certPem: readFileSync(join(pkiDir, `${name}.crt`), "utf8"),
    keyPem: readFileSync(join(pkiDir, `${name}.key`), "utf8"),
  };
}

function writeKeyPair(pkiDir: string, name: string, pair: KeyPair): void {
  writeFileSync(join(pkiDir, `${name}.key`), pair.keyPem, { mode: 0o600 });
  writeFileSync(join(pkiDir, `${name}.crt`), pair.certPem);
}

async function authority(pkiDir: string, name: string, commonName: string, clock: Clock): Promise<Authority> {
  if (existsSync(join(pkiDir, `${name}.crt`))) return loadAuthority({ ...readKeyPair(pkiDir, name), clock });
  const created = await createAuthority({ commonName, clock });
  writeKeyPair(pkiDir, name, created);
  return created;
}

function wanted(config: ClusterConfig): Record<string, Omit<CertificateRequest, "lifetimeMs">> {
  const apiHost = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    `kubernetes.default.svc.${clusterDomain}`,
  ];
  const master = masterOf(config);
  const requests: Record<string, Omit<CertificateRequest, "lifetimeMs">> = {
    apiserver: {
      commonName: "kube-apiserver",
      dnsNames: ["localhost", master.name, ...apiHost],
      ipAddresses: [...new Set(["127.0.0.1", master.ip, apiServiceAddress])],
      usages: ["server"],
    },
    "apiserver-kubelet-client": {
      commonName: "kube-apiserver-kubelet-client",
      organizations: ["system:masters"],
      usages: ["client"],
    },
    admin: { commonName: "kubernetes-admin", organizations: ["system:masters"], usages: ["client"] },
  };
  for (const node of config.nodes) {
    const subject = { commonName: `system:node:${node.name}`, organizations: ["system:nodes"] };
    const names = { dnsNames: [node.name], ipAddresses: [node.ip] };
    requests[`node-${node.name}`] = { ...subject, ...names, usages: ["server", "client"] };
  }
  return requests;
}

/** Still good for a while and made for these names? */
function isCurrent(
  pkiDir: string,
  name: string,
  request: Omit<CertificateRequest, "lifetimeMs">,
  clock: Clock,
): boolean {
  if (!existsSync(join(pkiDir, `${name}.crt`)) || !existsSync(join(pkiDir, `${name}.key`))) return false;
  const certificate = new X509Certificate(readFileSync(join(pkiDir, `${name}.crt`)));
  return (
    Date.parse(certificate.validTo) > clock.now() + renewBeforeMs &&
    (request.ipAddresses ?? []).every((ip) => certificate.checkIP(ip) !== undefined) &&
    (request.dnsNames ?? []).every((host) => certificate.checkHost(host) !== undefined)
  );
}

/** False before the first start. */
export const hasPki = (stateDir: string): boolean => existsSync(join(statePaths(stateDir).pki, "ca.crt"));

/** Makes what is missing or about to expire. The library for it is loaded only then. */
export async function ensurePki(config: ClusterConfig, clock: Clock): Promise<void> {
  const { pki } = statePaths(config.stateDir);
  mkdirSync(pki, { recursive: true, mode: 0o700 });
  if (!existsSync(join(pki, "mesh-ca.crt"))) await authority(pki, "mesh-ca", "meshbed mesh CA", clock);
  const stale = Object.entries(wanted(config)).filter(([name, request]) => !isCurrent(pki, name, request, clock));
  if (stale.length > 0) {
    const ca = await authority(pki, "ca", "meshbed cluster CA", clock);
    await Promise.all(
      stale.map(async ([name, request]) => writeKeyPair(pki, name, await ca.issue({ ...request, lifetimeMs }))),
    );
  }
  writeKubeconfig(config);
}

/** kubectl's configuration for the relayed API server, complete in one file. */
function writeKubeconfig(config: ClusterConfig): void {
  const paths = statePaths(config.stateDir);
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  const admin = readKeyPair(paths.pki, "admin");
  const kubeconfig = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "meshbed",
        cluster: {
          server: `https://127.0.0.1:${config.hostPorts.api}`,
          "certificate-authority-data": base64(readFileSync(join(paths.pki, "ca.crt"), "utf8")),
        },
      },
    ],
    users: [
      {
        name: "admin",
        user: { "client-certificate-data": base64(admin.certPem), "client-key-data": base64(admin.keyPem) },
      },
    ],
    contexts: [{ name: "meshbed", context: { cluster: "meshbed", user: "admin" } }],
    "current-context": "meshbed",
  };
  writeFileSync(paths.kubeconfig, Bun.YAML.stringify(kubeconfig, null, 2), { mode: 0o600 });
}
