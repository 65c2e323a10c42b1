// Which rules of a VirtualService can never be used, because earlier ones take everything that would come to them. Pure.

import type { FieldWarning } from "../kind.ts";

interface StringMatch {
  exact?: string;
  prefix?: string;
  regex?: string;
}
type Matches = Record<string, StringMatch> | undefined;

/** The fields of http, tls and tcp matches together. */
export interface AnyMatch {
  uri?: StringMatch;
  scheme?: StringMatch;
  method?: StringMatch;
  authority?: StringMatch;
  headers?: Matches;
  withoutHeaders?: Matches;
  queryParams?: Matches;
  ignoreUriCase?: boolean;
  port?: number;
  sourceLabels?: Record<string, string>;
  sourceNamespace?: string;
  gateways?: string[];
  destinationSubnets?: string[];
  sourceSubnet?: string;
  sniHosts?: string[];
}

export interface AnyRule {
  name?: string;
  match?: AnyMatch[];
  delegate?: object;
}

const ruleName = (rule: AnyRule, index: number): string => (rule.name ? JSON.stringify(rule.name) : `#${index}`);

/** Istio's VirtualServiceUnreachableRule and VirtualServiceIneffectiveMatch, but for whatever an earlier match covers. */
export function orderWarnings(rules: readonly AnyRule[] | undefined, path: string): FieldWarning[] {
  const warnings: FieldWarning[] = [];
  const taken: { match: AnyMatch; rule: number }[] = [];
  rules?.forEach((rule, index) => {
    const matches: AnyMatch[] = rule.match?.length ? rule.match : [{}];
    const coveredBy = matches.map((match) => taken.find((earlier) => covers(earlier.match, match))?.rule);
    const name = ruleName(rule, index);
    if (coveredBy.every((by) => by !== undefined)) {
      const first = Math.min(...coveredBy);
      const by = `${path}[${first}]${rules[first]?.name ? ` (${rules[first].name})` : ""}`;
      const why = rule.match?.length ? "all matches used by prior rules" : "only the last rule can have no matches";
      const message = `VirtualService rule ${name} not used (${why}): ${by} comes first and takes its requests`;
      warnings.push({ field: `${path}[${index}]`, message, code: "IST0130" });
    } else
      coveredBy.forEach((by, i) => {
        if (by === undefined) return;
        const message = `VirtualService rule ${name} match #${i} is not used (duplicate/overlapping match in rule ${ruleName(rules[by]!, by)})`;
        warnings.push({ field: `${path}[${index}].match[${i}]`, message, code: "IST0131" });
      });
    // What a delegate does not match goes on to the rules below.
    if (rule.delegate === undefined) for (const match of matches) taken.push({ match, rule: index });
  });
  return warnings;
}

/** Whether everything that `later` matches is matched by `earlier` too. May say no where it is so (regular expressions). */
export function covers(earlier: AnyMatch, later: AnyMatch): boolean {
  const ignoresCase = earlier.ignoreUriCase === true;
  if (!coversUri(earlier.uri, later.uri, ignoresCase, later.ignoreUriCase === true)) return false;
  for (const field of ["scheme", "method", "authority"] as const)
    if (earlier[field] && !coversText(earlier[field], later[field])) return false;
  for (const field of ["headers", "queryParams"] as const)
    for (const [name, match] of Object.entries(earlier[field] ?? {})) {
      const other = matchOf(later[field], name);
      if (other === undefined || !coversText(match, other)) return false;
    }
  for (const [name, match] of Object.entries(earlier.withoutHeaders ?? {})) {
    const other = matchOf(later.withoutHeaders, name);
    if (other === undefined || !coversText(other, match)) return false;
  }
  for (const [name, value] of Object.entries(earlier.sourceLabels ?? {}))
    if (later.sourceLabels?.[name] !== value) return false;
  for (const field of ["port", "sourceNamespace", "sourceSubnet"] as const)
    if (earlier[field] !== undefined && earlier[field] !== later[field]) return false;
  for (const field of ["gateways", "destinationSubnets", "sniHosts"] as const) {
    const wide = earlier[field];
    const narrow = later[field];
    if (wide?.length && !(narrow?.length && narrow.every((each) => wide.includes(each)))) return false;
  }
  return true;
}

const matchOf = (matches: Matches, name: string): StringMatch | undefined =>
  Object.entries(matches ?? {}).find(([other]) => other.toLowerCase() === name.toLowerCase())?.[1];

function coversUri(
  earlier: StringMatch | undefined,
  later: StringMatch | undefined,
  ignoresCase: boolean,
  laterIgnoresCase: boolean,
): boolean {
  // Every path begins with a slash.
  if (earlier === undefined || earlier.prefix === "/" || earlier.prefix === "") return true;
  if (later === undefined || (laterIgnoresCase && !ignoresCase)) return false;
  if (!ignoresCase || earlier.regex !== undefined) return coversText(earlier, later);
  return coversText(lowered(earlier), lowered(later));
}

const lowered = ({ exact, prefix, regex }: StringMatch): StringMatch => ({
  ...(exact !== undefined && { exact: exact.toLowerCase() }),
  ...(prefix !== undefined && { prefix: prefix.toLowerCase() }),
  ...(regex !== undefined && { regex }),
});

function coversText(earlier: StringMatch, later: StringMatch | undefined): boolean {
  const { exact, prefix, regex } = earlier;
  // A header that only has to be there.
  if (exact === undefined && prefix === undefined && regex === undefined) return later !== undefined;
  if (later === undefined) return false;
  if (exact !== undefined) return later.exact === exact;
  if (prefix !== undefined) return (later.exact ?? later.prefix)?.startsWith(prefix) ?? false;
  return regex === ".*" || (regex !== undefined && regex === later.regex);
}
