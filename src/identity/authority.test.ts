// The authority and workload certificates, checked with the platform's own X.509 and TLS.
import { describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import tls from "node:tls";
import { VirtualClock } from "../kernel/clock.ts";
import { silentLog } from "../kernel/log.ts";
import { createAuthority, createSelfSigned, loadAuthority } from "./authority.ts";
import { formatSpiffeId, parseSpiffeId } from "./spiffe.ts";
import { createWorkloadCertificates } from "./workload.ts";

const clock = new VirtualClock(Date.now());
const hourMs = 3_600_000;

describe("an authority", () => {
  test("issues certificates that its root verifies, with the names asked for", async () => {
    const authority = await createAuthority({ commonName: "meshbed-ca", clock });
    const issued = await authority.issue({
      commonName: "system:node:worker1",
      organizations: ["system:nodes"],
      dnsNames: ["worker1"],
      ipAddresses: ["172.20.0.11"],
      lifetimeMs: hourMs,
      usages: ["server", "client"],
    });
    const root = new X509Certificate(authority.certPem);
    const cert = new X509Certificate(issued.certPem);
    expect(root.ca).toBe(true);
    expect(cert.ca).toBe(false);
    expect(cert.verify(root.publicKey)).toBe(true);
    expect(cert.subject).toBe("O=system:nodes\nCN=system:node:worker1");
    expect(cert.subjectAltName).toBe("DNS:worker1, IP Address:172.20.0.11");
    expect(Date.parse(cert.validTo)).toBe(issued.notAfterMs);
    expect(issued.notAfterMs - clock.now()).toBeLessThanOrEqual(hourMs);
  });

  test("gives workloads a certificate with nothing but the SPIFFE id", async () => {
    const authority = await createAuthority({ commonName: "meshbed-ca", clock });
    const uri = formatSpiffeId({ trustDomain: "cluster.local", namespace: "video", serviceAccount: "web" });
    const issued = await authority.issue({ uris: [uri], lifetimeMs: hourMs, usages: ["server", "client"] });
    const cert = new X509Certificate(issued.certPem);
    expect(cert.subject ?? "").toBe("");
    expect(cert.subjectAltName).toBe(`URI:${uri}`);
  });

  test("goes on after its PEM strings were loaded again, and refuses a foreign key", async () => {
    const first = await createAuthority({ commonName: "a", clock });
    const second = await createAuthority({ commonName: "b", clock });
    const loaded = await loadAuthority({ certPem: first.certPem, keyPem: first.keyPem, clock });
    const issued = await loaded.issue({ commonName: "x", lifetimeMs: hourMs, usages: ["client"] });
    expect(new X509Certificate(issued.certPem).verify(new X509Certificate(first.certPem).publicKey)).toBe(true);
    expect(loadAuthority({ certPem: first.certPem, keyPem: second.keyPem, clock })).rejects.toThrow("does not belong");
  });

  test("refuses a request without any name", async () => {
    const authority = await createAuthority({ commonName: "a", clock });
    expect(authority.issue({ lifetimeMs: 1, usages: ["client"] })).rejects.toThrow("needs a common name");
  });

  test("makes certificates with which mutual TLS works, and a stranger's is refused", async () => {
    const authority = await createAuthority({ commonName: "a", clock });
    const stranger = await createAuthority({ commonName: "a", clock });
    const server = await authority.issue({ ipAddresses: ["127.0.0.1"], lifetimeMs: hourMs, usages: ["server"] });
    const outcome = async (from: typeof authority) => {
      const client = await from.issue({ commonName: "c", lifetimeMs: hourMs, usages: ["client"] });
      const listener = tls.createServer({
        cert: server.certPem,
        key: server.keyPem,
        ca: authority.certPem,
        requestCert: true,
        rejectUnauthorized: false,
      });
      const authorized = new Promise<boolean>((resolve) => {
        listener.on("secureConnection", (socket) => {
          resolve(socket.authorized);
          socket.end();
        });
      });
      await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
      const { port } = listener.address() as { port: number };
      const socket = tls.connect({
        host: "127.0.0.1",
        port,
        ca: authority.certPem,
        cert: client.certPem,
        key: client.keyPem,
      });
      socket.on("error", () => {});
      const result = await authorized;
      socket.destroy();
      listener.close();
      return result;
    };
    expect(await outcome(authority)).toBe(true);
    expect(await outcome(stranger)).toBe(false);
  });
});

test("a self-signed certificate verifies against itself", async () => {
  const issued = await createSelfSigned({
    commonName: "localhost",
    dnsNames: ["localhost"],
    lifetimeMs: hourMs,
    clock,
  });
  const cert = new X509Certificate(issued.certPem);
  expect(cert.verify(cert.publicKey)).toBe(true);
  expect(cert.checkHost("localhost")).toBe("localhost");
});

test("SPIFFE ids are written and read back, others are not taken for ours", () => {
  const identity = { trustDomain: "cluster.local", namespace: "video", serviceAccount: "web" };
  expect(formatSpiffeId(identity)).toBe("spiffe://cluster.local/ns/video/sa/web");
  expect(parseSpiffeId(formatSpiffeId(identity))).toEqual(identity);
  expect(parseSpiffeId("spiffe://cluster.local/other/web")).toBeUndefined();
});

test("workload certificates are shared and replaced at half of their life", async () => {
  const virtual = new VirtualClock(Date.now());
  const authority = await createAuthority({ commonName: "a", clock: virtual });
  const issued: string[] = [];
  const certificates = createWorkloadCertificates({
    authority,
    clock: virtual,
    log: silentLog,
    lifetimeMs: hourMs,
    onIssued: (id) => issued.push(id),
  });
  const id = "spiffe://cluster.local/ns/a/sa/b";
  expect(certificates.current(id)).toBeUndefined();
  await certificates.idle();
  const first = certificates.current(id);
  expect(first).toBeDefined();
  virtual.advance(hourMs / 2 - 2_000);
  await certificates.idle();
  expect(certificates.current(id)).toBe(first);
  virtual.advance(2_000);
  await certificates.idle();
  expect(certificates.current(id)?.certPem).not.toBe(first?.certPem);
  expect(issued).toEqual([id, id]);
  certificates.close();
});

test("a shorter lifetime holds at once, for certificates that are there and for one on its way", async () => {
  const virtual = new VirtualClock(Date.now());
  const authority = await createAuthority({ commonName: "a", clock: virtual });
  const issued: string[] = [];
  const certificates = createWorkloadCertificates({
    authority,
    clock: virtual,
    log: silentLog,
    lifetimeMs: hourMs,
    onIssued: (id) => issued.push(id.at(-1)!),
  });
  certificates.current("spiffe://cluster.local/ns/a/sa/b");
  await certificates.idle();
  certificates.current("spiffe://cluster.local/ns/a/sa/c");
  certificates.setLifetime(10_000);
  await certificates.idle();
  expect(issued.toSorted()).toEqual(["b", "b", "c"]);
  virtual.advance(5_000);
  await certificates.idle();
  expect(issued.length).toBe(5);
  certificates.setLifetime(hourMs);
  expect(issued.length).toBe(5);
  certificates.close();
});
