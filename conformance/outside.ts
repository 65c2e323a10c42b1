// The world outside the mesh: echo servers on the client machines of a testbed, with names that the cluster's DNS knows.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root, run, type Testbed, until } from "./testbed.ts";

/** Addresses of the client machines. */
export const outsideIps = ["172.20.0.101", "172.20.0.102"] as const;

export interface Outside {
  /** PEM file of who issued the servers' certificates. */
  caFile: string;
  /** More names: "172.20.0.101 api.example.com", a line each. */
  names(hosts: string): Promise<void>;
  stop(): void;
}

/** Each machine answers HTTP on 80 and 8080, HTTPS on 8443 (for *.example.com) and lines on `tcpPorts`; VERSION is outside1, outside2. */
export async function startOutside(testbed: Testbed): Promise<Outside> {
  const folder = mkdtempSync(join(tmpdir(), "meshbed-outside-"));
  const file = (name: string) => join(folder, name);
  await openssl(["req", "-x509", ...key(file("ca")), "-out", file("ca.crt"), "-subj", "/CN=outside"]);
  const names = "subjectAltName=DNS:*.example.com,DNS:*.wild.example.com";
  await openssl([
    ...["req", "-x509", ...key(file("server")), "-out", file("server.crt"), "-subj", "/CN=server", "-days", "1"],
    ...["-CA", file("ca.crt"), "-CAkey", file("ca.key"), "-addext", names],
    ...["-addext", "basicConstraints=critical,CA:FALSE"],
  ]);
  const servers = outsideIps.flatMap((_, i) => [
    serve(testbed, i, { PORT: "80", TCP_PORT: "9000", TLS_PORT: "443" }, file),
    serve(testbed, i, { PORT: "8080", TCP_PORT: "5432", TLS_PORT: "8443" }, file),
  ]);
  await Promise.all(
    outsideIps.flatMap((ip, i) =>
      [80, 8080].map((port) =>
        until(`the server outside answers on ${port}`, 10_000, async () => {
          const argv = ["curl", "-s", "-m", "1", `http://${ip}:${port}/healthz`];
          return (await testbed.meshbed("exec", `client${i + 1}`, "--", ...argv)).stdout === "ok";
        }),
      ),
    ),
  );
  return {
    caFile: file("ca.crt"),
    async names(hosts) {
      const metadata = { name: "coredns", namespace: "kube-system" };
      await testbed.apply(
        JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata, data: { NodeHosts: hosts } }),
      );
    },
    stop() {
      for (const server of servers) server.kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function serve(testbed: Testbed, index: number, ports: Record<string, string>, file: (name: string) => string) {
  const version = `outside${index + 1}`;
  const tls = { TLS_CERT: file("server.crt"), TLS_KEY: file("server.key") };
  const env = Object.entries({ ...ports, ...tls, VERSION: version, HOSTNAME: version }).map(
    ([name, value]) => `${name}=${value}`,
  );
  const main = [process.execPath, join(root, "src/main.ts"), "exec", "--state", testbed.state];
  const server = [process.execPath, join(root, "examples/istio/echo.ts")];
  return Bun.spawn([...main, `client${index + 1}`, "--", "env", ...env, ...server], {
    stdio: ["ignore", "ignore", "ignore"],
  });
}

const key = (name: string): string[] => [
  ...["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${name}.key`],
];

async function openssl(args: string[]): Promise<void> {
  const output = await run(["openssl", ...args]);
  if (output.code !== 0) throw new Error(`openssl ${args.join(" ")}: ${output.stderr}`);
}
