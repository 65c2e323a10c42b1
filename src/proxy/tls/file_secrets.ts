// Secrets that are files of this machine, by the names Istio's agent serves them under: "file-root:<ca>" and "file-cert:<certificate>~<key>".

import { create } from "@bufbuild/protobuf";
import { SecretSchema } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { messageOf } from "../../kernel/errors.ts";
import type { Log } from "../../kernel/log.ts";
import type { SecretStore } from "./secrets.ts";

const file = (path: string) => ({ specifier: { case: "filename", value: path } }) as const;

/** Puts those into the store, read anew; what cannot be read is missing there. Answers the names of all others. */
export function takeFiles(names: Iterable<string>, store: SecretStore, log: Log): string[] {
  const others: string[] = [];
  for (const name of names) {
    const [, kind, path] = /^file-(root|cert):(.+)$/.exec(name) ?? [];
    if (kind === undefined || path === undefined) {
      others.push(name);
      continue;
    }
    const [first = "", key = ""] = path.split("~");
    try {
      store.take(
        create(SecretSchema, {
          name,
          type:
            kind === "root"
              ? { case: "validationContext", value: { trustedCa: file(first) } }
              : { case: "tlsCertificate", value: { certificateChain: file(first), privateKey: file(key) } },
        }),
      );
    } catch (error) {
      store.remove(name);
      log.warn("a file with certificates cannot be used: who needs it does not connect", {
        name,
        reason: messageOf(error),
      });
    }
  }
  return others;
}
