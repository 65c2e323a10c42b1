// Secrets from files: read by their names, missing when they cannot be, and nobody else's business.
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../../kernel/log.ts";
import { takeFiles } from "./file_secrets.ts";
import { testAuthority } from "./fixture.ts";
import { defaultTlsParams } from "./params.ts";
import { SecretStore } from "./secrets.ts";

const folder = mkdtempSync(join(tmpdir(), "meshbed-files-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("a file that is there is a secret, one that is not or no longer makes who needs it not connect", async () => {
  const authority = await testAuthority("files");
  const path = join(folder, "ca.pem");
  const name = `file-root:${path}`;
  const store = new SecretStore();
  const context = store.clientContext(undefined, { secret: name, inline: undefined }, defaultTlsParams);
  expect(takeFiles(["default", name, "ROOTCA"], store, silentLog)).toEqual(["default", "ROOTCA"]);
  expect(context()).toBeUndefined();
  writeFileSync(path, authority.certPem);
  takeFiles([name], store, silentLog);
  expect(context()).toBeDefined();
  writeFileSync(path, "no certificate");
  takeFiles([name], store, silentLog);
  expect(context()).toBeUndefined();
});
