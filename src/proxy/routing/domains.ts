// Which virtual host of a route configuration a host name belongs to. Pure.

import { getOrAdd } from "../../kernel/map.ts";

interface Part {
  text: string;
  place: number;
}

/** Domains with the place of their virtual host. */
export interface DomainIndex {
  exact: ReadonlyMap<string, number>;
  /** "*.example.com" without the star; longest first. */
  suffixes: readonly Part[];
  /** "www.*" without the star; longest first. */
  prefixes: readonly Part[];
  any: number | undefined;
}

/** Lists that were seen before: most virtual hosts stay when a table changes. */
const compared = new WeakMap<readonly string[], readonly string[]>();

/** Ports do not take part: a host "a.b:8080" in a request is looked up as "a.b". */
const comparable = (domains: readonly string[]): string[] => [
  ...new Set(
    domains.map((text) =>
      (text.startsWith("*") || text.endsWith("*") ? text : text.replace(/:\d+$/, "")).toLowerCase(),
    ),
  ),
];

/** Of a domain that is said twice the first counts. */
export function indexDomains(hosts: readonly { domains: readonly string[] }[]): DomainIndex {
  const exact = new Map<string, number>();
  const suffixes: Part[] = [];
  const prefixes: Part[] = [];
  let any: number | undefined;
  for (const [place, { domains }] of hosts.entries())
    for (const domain of getOrAdd(compared, domains, () => comparable(domains))) {
      if (domain === "*") any ??= place;
      else if (domain.startsWith("*")) suffixes.push({ text: domain.slice(1), place });
      else if (domain.endsWith("*")) prefixes.push({ text: domain.slice(0, -1), place });
      else if (!exact.has(domain)) exact.set(domain, place);
    }
  const longestFirst = (a: Part, b: Part): number => b.text.length - a.text.length;
  suffixes.sort(longestFirst);
  prefixes.sort(longestFirst);
  return { exact, suffixes, prefixes, any };
}

/** Envoy's order: exact, longest suffix, longest prefix, "*". The wildcard part is never empty. `host` is lower case without port. */
export function findDomain(domains: DomainIndex, host: string): number | undefined {
  const exact = domains.exact.get(host);
  if (exact !== undefined) return exact;
  for (const { text, place } of domains.suffixes) if (host.length > text.length && host.endsWith(text)) return place;
  for (const { text, place } of domains.prefixes) if (host.length > text.length && host.startsWith(text)) return place;
  return domains.any;
}
