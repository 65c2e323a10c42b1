// Certificates → SDS secrets: a workload's own, the roots, and the credentials Gateways name. Pure.

import { create } from "@bufbuild/protobuf";
import {
  type Secret as SdsSecret,
  SecretSchema,
} from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import type { Secret } from "../api/types.ts";
import type { Certificate } from "../identity/authority.ts";
import type { Model } from "./types.ts";

const inline = (text: string) => ({ specifier: { case: "inlineBytes", value: Buffer.from(text) } as const });

/** SDS "default": the workload's certificate and key. */
export const workloadSecret = (certificate: Certificate): SdsSecret =>
  certificateSecret("default", certificate.certPem, certificate.keyPem);

/** SDS "ROOTCA": whom workloads trust. */
export const rootsSecret = (certPem: string, name = "ROOTCA", crlPem?: string): SdsSecret =>
  create(SecretSchema, {
    name,
    type: {
      case: "validationContext",
      value: { trustedCa: inline(certPem), ...(crlPem !== undefined && { crl: inline(crlPem) }) },
    },
  });

function certificateSecret(name: string, certPem: string, keyPem: string): SdsSecret {
  return create(SecretSchema, {
    name,
    type: { case: "tlsCertificate", value: { certificateChain: inline(certPem), privateKey: inline(keyPem) } },
  });
}

const caSuffix = "-cacert";

/** "kubernetes://<credentialName>" from the Secret of that name in the gateway pod's namespace; undefined: no such Secret. */
export function credentialSecret(model: Model, name: string, namespace: string): SdsSecret | undefined {
  const credential = name.slice("kubernetes://".length);
  const find = (secretName: string): Secret | undefined =>
    model.secrets.get(secretName.includes("/") ? secretName : `${namespace}/${secretName}`);
  if (credential.endsWith(caSuffix)) {
    // Roots stand in a Secret of their own, or beside the certificate (Istio: credentialName with ca.crt).
    const own = find(credential) ?? find(credential.slice(0, -caSuffix.length));
    const roots = dataOf(own, "ca.crt") ?? dataOf(own, "cacert");
    return roots === undefined ? undefined : rootsSecret(roots, name, dataOf(own, "ca.crl"));
  }
  const secret = find(credential);
  const cert = dataOf(secret, "tls.crt") ?? dataOf(secret, "cert");
  const key = dataOf(secret, "tls.key") ?? dataOf(secret, "key");
  return cert === undefined || key === undefined ? undefined : certificateSecret(name, cert, key);
}

function dataOf(secret: Secret | undefined, key: string): string | undefined {
  const value = secret?.data?.[key] as string | undefined;
  if (value !== undefined) return Buffer.from(value, "base64").toString();
  return secret?.stringData?.[key] as string | undefined;
}
