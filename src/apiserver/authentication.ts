// Who is at the other end of a connection: the subject of a client certificate signed by the cluster's CA (CN user, O groups).

import type { TLSSocket } from "node:tls";
import { anonymous } from "./authorization.ts";
import type { User } from "./types.ts";

/** Undefined: a certificate was shown that the cluster does not trust. */
type Identified = User | undefined;

const known = new WeakMap<TLSSocket, { user: Identified }>();

export function userOf(socket: TLSSocket): Identified {
  let found = known.get(socket);
  if (found === undefined) {
    found = { user: identify(socket) };
    known.set(socket, found);
  }
  return found.user;
}

function identify(socket: TLSSocket): Identified {
  const certificate = socket.getPeerCertificate?.();
  const name: unknown = certificate?.subject?.CN;
  if (certificate === undefined || Object.keys(certificate).length === 0) return anonymous;
  if (!socket.authorized || typeof name !== "string" || name === "") return undefined;
  const organizations = certificate.subject.O as string | string[] | undefined;
  return { name, groups: [...[organizations ?? []].flat(), "system:authenticated"] };
}
