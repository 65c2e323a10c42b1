// The certificate of the bundled gateway's HTTPS server: self-signed, made once, kept as the Secret that the Gateway names.

import * as resources from "../api/resources.ts";
import type { Client } from "../client/types.ts";
import { createSelfSigned } from "../identity/authority.ts";
import type { Clock } from "../kernel/clock.ts";
import { rootNamespace } from "./config.ts";

export const gatewaySecretName = "video-tls";
const lifetimeMs = 365 * 86_400_000;

/** Creates the Secret unless it is there. False while the gateway's namespace does not exist yet. */
export async function ensureGatewayCertificate(client: Client, clock: Clock): Promise<boolean> {
  const missing = async (request: Promise<unknown>): Promise<boolean> => {
    try {
      await request;
      return false;
    } catch (error) {
      if ((error as { reason?: string }).reason === "NotFound") return true;
      throw error;
    }
  };
  if (await missing(client.get(resources.namespaces, undefined, rootNamespace))) return false;
  if (!(await missing(client.get(resources.secrets, rootNamespace, gatewaySecretName)))) return true;
  const { certPem, keyPem } = await createSelfSigned({
    commonName: "localhost",
    dnsNames: ["localhost", "*.localhost"],
    ipAddresses: ["127.0.0.1"],
    lifetimeMs,
    clock,
  });
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  await client.create(resources.secrets, {
    apiVersion: "v1",
    kind: "Secret",
    type: "kubernetes.io/tls",
    metadata: { name: gatewaySecretName, namespace: rootNamespace },
    data: { "tls.crt": base64(certPem), "tls.key": base64(keyPem) },
  });
  return true;
}
