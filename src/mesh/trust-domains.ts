// Trust domains that count as this mesh's own, and principals of policies in all of them (Istio pilot/pkg/security/trustdomain). Pure.

import type { Model } from "./types.ts";

/** Written in policies, this stands for the mesh's own trust domain, whatever it is called. */
const ownName = "cluster.local";

/** Its own first. */
export const trustDomainsOf = ({ config, settings }: Pick<Model, "config" | "settings">): string[] => [
  ...new Set([config.trustDomain, ...(settings.trustDomainAliases ?? [])]),
];

/**
 * "<trust domain>/ns/…/sa/…" once for every domain of the mesh, if it is about one of them. A star before the end of the domain's
 * name stays where it fits. Anything else is left as it is.
 */
export function withAliases(principals: readonly string[], domains: readonly string[]): string[] {
  if (domains.length === 0) return [...principals];
  const all = principals.flatMap((principal) => {
    const parts = principal.split("/");
    if (parts.length !== 5) return [principal];
    const [domain = "", ...rest] = parts;
    const fits = (own: string): boolean => (domain.startsWith("*") ? own.endsWith(domain.slice(1)) : own === domain);
    if (domain !== ownName && !domains.some(fits)) return [principal];
    return domains.map((own) => (domain.startsWith("*") && fits(own) ? principal : [own, ...rest].join("/")));
  });
  return [...new Set(all)];
}
