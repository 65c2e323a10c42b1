// Starts the API server: request core, in-process transport, HTTPS.

import type { ApiTransport } from "../api/rest.ts";
import { Metrics } from "../kernel/metrics.ts";
import { type ApiOptions, createApi } from "./api.ts";
import { publishEndpoint } from "./endpoint.ts";
import { createHttpsServer } from "./http.ts";
import { createKubeletAccess } from "./kubelets.ts";
import { observeRequests } from "./request-metrics.ts";

export interface ApiServerOptions extends Omit<ApiOptions, "kubelets" | "metrics" | "port"> {
  host: string;
  /** 0: any free port. */
  port: number;
  tls: {
    certPem: string;
    keyPem: string;
    /** Signs the certificates of clients and of kubelets. */
    clientCaPem: string;
    kubeletClientCertPem: string;
    kubeletClientKeyPem: string;
  };
}

export interface ApiServer {
  port: number;
  /** The same API without the network, as system:masters. */
  transport: ApiTransport;
  /** Ends watches and connections. The store stays open and belongs to the caller. */
  close(): Promise<void>;
}

export async function startApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const { tls, log, clock } = options;
  const metrics = new Metrics();
  const api = await createApi({
    ...options,
    metrics,
    port: options.port || 6443,
    kubelets: createKubeletAccess({
      caPem: tls.clientCaPem,
      certPem: tls.kubeletClientCertPem,
      keyPem: tls.kubeletClientKeyPem,
    }),
  });
  const server = createHttpsServer(api.core, tls, observeRequests(metrics, clock), log);
  const port = await server.listen(options.port, options.host);
  await publishEndpoint(api.transport, options.host, port);
  log.info("API server listens", { host: options.host, port });
  return {
    port,
    transport: api.transport,
    async close() {
      api.close();
      await server.close();
    },
  };
}
