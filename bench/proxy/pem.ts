// Reads the benchmark's PEM files: a certificate with its key in one file, as HAProxy wants it.

import { readFileSync } from "node:fs";
import type { AdsFacts } from "./child.ts";

export function readPem(path: string): { certPem: string; keyPem: string } {
  const text = readFileSync(path, "utf8");
  const keyAt = text.indexOf("-----BEGIN PRIVATE KEY");
  return { certPem: text.slice(0, keyAt), keyPem: text.slice(keyAt) };
}

export function adsTls({ pem, ca }: AdsFacts): { ca: string; cert: string; key: string } {
  const { certPem, keyPem } = readPem(pem);
  return { ca: readFileSync(ca, "utf8"), cert: certPem, key: keyPem };
}
