// Kubeconfig files: embedded data, files beside it, and errors that name the file.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadKubeconfig } from "./kubeconfig.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "meshbed-kubeconfig-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const base64 = (text: string) => Buffer.from(text).toString("base64");
async function write(name: string, text: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text);
  return path;
}
const file = (cluster: string, user = "{}", current = "meshbed") => `
apiVersion: v1
kind: Config
current-context: ${current}
contexts: [{name: meshbed, context: {cluster: c, user: u, namespace: shop}}]
clusters: [{name: c, cluster: ${cluster}}]
users: [{name: u, user: ${user}}]
`;

test("embedded data is decoded", async () => {
  const cluster = `{server: "https://127.0.0.1:6443/", certificate-authority-data: ${base64("CA")}}`;
  const user = `{client-certificate-data: ${base64("CERT")}, client-key-data: ${base64("KEY")}}`;
  expect(await loadKubeconfig(await write("a", file(cluster, user)))).toEqual({
    server: "https://127.0.0.1:6443",
    caPem: "CA",
    certPem: "CERT",
    keyPem: "KEY",
    namespace: "shop",
  });
});

test("files are read relative to the kubeconfig", async () => {
  await write("ca.crt", "CA from file");
  const path = await write("b", file(`{server: "https://h", certificate-authority: ca.crt}`));
  expect((await loadKubeconfig(path)).caPem).toBe("CA from file");
});

test.each([
  ["missing", undefined, "missing: "],
  ["context", file("{}", "{}", "other"), 'context "other" is not in the file'],
  ["server", file("{}"), "the cluster has no server"],
  ["ca", file('{server: "https://h"}'), "no certificate-authority-data"],
  ["absent", file('{server: "https://h", certificate-authority: nowhere.crt}'), "certificate-authority: "],
  ["yaml", "a: [", "yaml: "],
  ["empty", "", "no context is selected"],
])("%s: the error names the file and the problem", async (name, text, message) => {
  if (text !== undefined) await write(name, text);
  const failure = await loadKubeconfig(join(folder, name)).catch((error) => error);
  expect(failure.code).toBe("KUBECONFIG_INVALID");
  expect(failure.message).toContain(join(folder, name));
  expect(failure.message).toContain(message);
});
