// What x-forwarded-client-cert says of a workload's certificate.

import { expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { createAuthority } from "../../identity/authority.ts";
import { realClock } from "../../kernel/clock.ts";
import { distinguishedName } from "./client_cert.ts";

test("a workload's certificate without a subject has an empty name, one with a subject has it", async () => {
  const authority = await createAuthority({ commonName: "mesh", clock: realClock });
  const nameOf = async (request: { commonName?: string; organizations?: string[] }): Promise<string> => {
    const uris = ["spiffe://cluster.local/ns/a/sa/b"];
    const { certPem } = await authority.issue({ ...request, uris, lifetimeMs: 60_000, usages: ["client"] });
    return distinguishedName(new X509Certificate(certPem).subject);
  };
  expect(await nameOf({})).toBe("");
  expect(await nameOf({ commonName: "web", organizations: ["shop"] })).toBe("CN=web,O=shop");
});
