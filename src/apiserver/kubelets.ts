// The API server's way to kubelets: HTTPS with its client certificate, trusting the cluster's CA.

import { messageOf } from "../kernel/errors.ts";
import { hostPort } from "../kernel/host_port.ts";
import { unavailable } from "./failure.ts";
import type { KubeletAccess } from "./types.ts";

export interface KubeletTls {
  caPem: string;
  certPem: string;
  keyPem: string;
}

export function createKubeletAccess({ caPem, certPem, keyPem }: KubeletTls): KubeletAccess {
  return {
    async get(address, port, path, signal) {
      const url = `https://${hostPort(address, port)}${path}`;
      const init: BunFetchRequestInit & { timeout: boolean } = {
        signal,
        tls: { ca: caPem, cert: certPem, key: keyPem },
        timeout: false, // A followed log may be silent for as long as it likes.
      };
      try {
        return await fetch(url, init);
      } catch (error) {
        throw unavailable(`the kubelet at ${address}:${port} cannot be reached: ${messageOf(error)}`);
      }
    },
  };
}
