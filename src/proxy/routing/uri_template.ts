// Envoy's URI templates ("/users/{id}/*", "/files/**.mp4"): matching a path and rewriting it with what the variables held.

import { MeshbedError } from "../../kernel/errors.ts";
import { compileRe2 } from "./match.ts";

/** As Envoy's limits. */
const variablesMax = 5;
const variableNameMax = 16;
const templateLengthMax = 256;

/** RFC 3986's pchar without "*" and "=", as Envoy's. */
const literal = "[a-zA-Z0-9\\-._~%!$&'()+,;:@]";
const literalOnly = new RegExp(`^${literal}+$`);
const globs: Record<string, string> = { "*": `${literal}+`, "**": `[a-zA-Z0-9\\-._~%!$&'()+,;:@/]*` };

export interface UriTemplate {
  /** The variables' values, or undefined when the path (without query) does not match. */
  match(path: string): ReadonlyMap<string, string> | undefined;
  readonly variables: readonly string[];
}

const refused = (template: string, why: string): MeshbedError =>
  new MeshbedError("URI_TEMPLATE_INVALID", `URI template ${JSON.stringify(template)}: ${why}`);

const quoted = (text: string): string => text.replace(/[$()+.\\]/g, "\\$&");

export function compileUriTemplate(template: string): UriTemplate {
  const variables: string[] = [];
  let glob = "";
  /** One piece between slashes: an operator or a literal. */
  const piece = (text: string): string => {
    if (text !== "*" && text !== "**") {
      if (!literalOnly.test(text)) throw refused(template, `"${text}" is not a literal`);
      return quoted(text);
    }
    if (glob === "**") throw refused(template, "nothing but literals may follow **");
    glob = text;
    return globs[text]!;
  };
  const variable = (name: string, pattern: string): string => {
    if (!/^[a-zA-Z][a-zA-Z0-9_]*$/.test(name) || name.length > variableNameMax)
      throw refused(template, `"${name}" is not a variable's name`);
    if (variables.includes(name)) throw refused(template, `variable "${name}" twice`);
    if (variables.push(name) > variablesMax) throw refused(template, `more than ${variablesMax} variables`);
    return `(${pattern.split("/").map(piece).join("/")})`;
  };
  if (!template.startsWith("/") || template.length > templateLengthMax)
    throw refused(template, `it must start with / and have at most ${templateLengthMax} characters`);
  // A slash inside braces belongs to the variable's pattern.
  const segments = template.slice(1).match(/(\{[^}]*\}|[^/])+|(?<=\/)$|^$/g) ?? [];
  const sources = segments.map((segment, index) => {
    if (segment === "") return "";
    const parts = /^(?:\{([^}=]*)(?:=([^}]+))?\}|(\*\*?))(.*)$/.exec(segment);
    if (!parts) return piece(segment);
    const [, name, pattern, operator, suffix = ""] = parts;
    if (suffix !== "" && index < segments.length - 1) throw refused(template, `a suffix only at the end`);
    const source = operator === undefined ? variable(name!, pattern ?? "*") : piece(operator);
    return suffix === "" ? source : source + piece(suffix);
  });
  if (`/${segments.join("/")}` !== template) throw refused(template, "empty segments");
  const program = compileRe2(`/${sources.join("/")}`);
  return {
    variables,
    match(path) {
      const matcher = program.matcher(path);
      if (!matcher.matches()) return undefined;
      return new Map(variables.map((name, index) => [name, matcher.group(index + 1) ?? ""]));
    },
  };
}

/** path_template_rewrite: literals and {variables} of `template`. */
export function compileTemplateRewrite(rewrite: string, template: UriTemplate): (path: string) => string {
  const parts = rewrite.match(/\{[^}]*\}|[^{}]+/g) ?? [];
  const bad = parts.join("") !== rewrite || !rewrite.startsWith("/");
  const unknown = parts.find((part) => part.startsWith("{") && !template.variables.includes(part.slice(1, -1)));
  if (bad || unknown !== undefined)
    throw refused(rewrite, unknown === undefined ? "not a rewrite pattern" : `${unknown} is not in the match`);
  return (path) => {
    const values = template.match(path);
    if (values === undefined) return path;
    return parts.map((part) => (part.startsWith("{") ? values.get(part.slice(1, -1))! : part)).join("");
  };
}
