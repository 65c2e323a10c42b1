// Who may do what. Until RBAC: holders of a certificate of the cluster everything, everybody else a sign of life.

import type { Attributes, Authorize, User } from "./types.ts";

export const anonymous: User = { name: "system:anonymous", groups: ["system:unauthenticated"] };

const publicPaths = ["/healthz", "/livez", "/readyz", "/version"];

export const authorizeCertificateHolders: Authorize = (user, attributes) => {
  if (user.name !== anonymous.name) return { allowed: true };
  if (attributes.kind === "path" && publicPaths.includes(attributes.path)) return { allowed: true };
  return { allowed: false, reason: reasonFor(user, attributes) };
};

function reasonFor(user: User, attributes: Attributes): string {
  if (attributes.kind === "path")
    return `User "${user.name}" cannot ${attributes.verb} path "${attributes.path}": a client certificate is required`;
  const { verb, resource, group, namespace } = attributes;
  const scope = namespace === undefined ? "at the cluster scope" : `in the namespace "${namespace}"`;
  return `User "${user.name}" cannot ${verb} resource "${resource}" in API group "${group}" ${scope}: a client certificate is required`;
}
