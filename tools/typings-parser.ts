// Parses the one interface or alias that a typings file of kubernetes-models declares; knows exactly the subset of TypeScript used there.
import type { Schema } from "../src/api/schema.ts";

export interface TypingsContext {
  /** The schema name for a referenced type. */
  reference(identifier: string): string;
  /** Whether a number is not an integer; `path` holds the enclosing fields. */
  isFractional(field: string, path: readonly string[]): boolean;
  /** The schema of a type that the declared one extends. */
  inherited(identifier: string): Schema;
}

interface Token {
  kind: "doc" | "string" | "word" | "mark";
  text: string;
}

function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  const syntax = /\/\*\*([\s\S]*?)\*\/|"((?:[^"\\]|\\.)*)"|([A-Za-z_$][\w$]*|\d+)|(\s+)|([{}[\]()<>:;?,|&=])/y;
  while (syntax.lastIndex < text.length) {
    const at = syntax.lastIndex;
    const match = syntax.exec(text);
    if (match === null) throw new Error(`cannot read the typings at: ${text.slice(at, at + 60)}`);
    const [, doc, string, word, , mark] = match;
    if (doc !== undefined) tokens.push({ kind: "doc", text: docText(doc) });
    else if (string !== undefined) tokens.push({ kind: "string", text: JSON.parse(`"${string}"`) });
    else if (word !== undefined) tokens.push({ kind: "word", text: word });
    else if (mark !== undefined) tokens.push({ kind: "mark", text: mark });
  }
  return tokens;
}

function docText(comment: string): string {
  return comment
    .split("\n")
    .map((line) => line.replace(/^\s*\* ?/, ""))
    .join("\n")
    .replaceAll("*\\/", "*/")
    .trim();
}

class Parser {
  readonly #tokens: Token[];
  readonly #context: TypingsContext;
  readonly #path: string[] = [];
  #at = 0;

  constructor(text: string, context: TypingsContext) {
    this.#tokens = tokenize(text);
    this.#context = context;
  }

  /** { members } with the opening brace still ahead. */
  members(): Schema {
    this.#expect("{");
    if (this.#peek("[")) return this.#indexSignature();
    const schema: Schema = { type: "object" };
    const properties: Record<string, Schema> = {};
    const required: string[] = [];
    while (!this.#take("}")) {
      const description = this.#tokens[this.#at]?.kind === "doc" ? this.#tokens[this.#at++]!.text : undefined;
      const name = this.#tokens[this.#at++]!.text;
      const isOptional = this.#take("?");
      this.#expect(":");
      this.#path.push(name);
      const type = this.#union();
      this.#path.pop();
      this.#expect(";");
      properties[name] = described(type, description);
      if (!isOptional) required.push(name);
    }
    if (Object.keys(properties).length > 0) schema.properties = properties;
    if (required.length > 0) schema.required = required;
    return schema;
  }

  #indexSignature(): Schema {
    this.#expect("[");
    this.#at++;
    this.#expect(":");
    this.#at++;
    this.#expect("]");
    this.#expect(":");
    const additionalProperties = this.#union();
    this.#take(";");
    this.#expect("}");
    return { type: "object", additionalProperties };
  }

  /** The alternatives of a oneOf all repeat the fields of the first, so the first stands for all. */
  #union(): Schema {
    this.#take("|");
    const first = this.#intersection();
    const types = [first];
    while (this.#take("|")) types.push(this.#intersection());
    if (types.every((type) => type.enum !== undefined))
      return { type: first.type!, enum: types.flatMap((type) => type.enum!) };
    if (types.length === 2 && types.some((t) => t.type === "string") && types.some((t) => t.type === "integer"))
      return { format: "int-or-string", oneOf: [{ type: "integer" }, { type: "string" }] };
    return first;
  }

  /** `T & (one of several refinements)`: the refinements only say which fields exclude each other. */
  #intersection(): Schema {
    const first = this.#primary();
    while (this.#take("&")) this.#primary();
    return first;
  }

  #primary(): Schema {
    if (this.#peek("{")) return this.members();
    if (this.#take("(")) {
      const inner = this.#union();
      this.#expect(")");
      return inner;
    }
    const token = this.#tokens[this.#at++]!;
    if (token.kind === "string") return { type: "string", enum: [token.text] };
    if (/^\d+$/.test(token.text)) return { type: "integer", enum: [Number(token.text)] };
    switch (token.text) {
      case "string":
      case "boolean":
        return { type: token.text };
      case "number":
        return { type: this.#context.isFractional(this.#path.at(-1) ?? "", this.#path) ? "number" : "integer" };
      case "any":
      case "unknown":
        return {};
      case "Array":
      case "Exclude": {
        this.#expect("<");
        const first = this.#union();
        while (this.#take(",")) this.#union();
        this.#expect(">");
        return token.text === "Array" ? { type: "array", items: first } : first;
      }
      default:
        return { $ref: `#/components/schemas/${this.#context.reference(token.text)}` };
    }
  }

  seek(words: readonly string[]): boolean {
    for (; this.#at < this.#tokens.length; this.#at++)
      if (words.every((word, i) => this.#tokens[this.#at + i]?.text === word)) return true;
    return false;
  }
  /** The description in front and the type extended, and the position moved to the body. */
  heading(bodyMark: "{" | "="): { description: string | undefined; parent: string | undefined } {
    const before = this.#tokens[this.#at - 1];
    let parent: string | undefined;
    for (; !this.#peek(bodyMark); this.#at++)
      if (this.#tokens[this.#at]?.text === "extends") parent = this.#tokens[this.#at + 1]?.text;
    return { description: before?.kind === "doc" ? before.text : undefined, parent };
  }
  /** = type */
  alias(): Schema {
    this.#expect("=");
    return this.#union();
  }
  #peek(text: string): boolean {
    const token = this.#tokens[this.#at];
    return token?.kind === "mark" && token.text === text;
  }
  #take(text: string): boolean {
    if (!this.#peek(text)) return false;
    this.#at++;
    return true;
  }
  #expect(text: string): void {
    if (this.#take(text)) return;
    const context = this.#tokens.slice(this.#at - 5, this.#at + 5).map((token) => token.text);
    throw new Error(`expected ${text} in: ${context.join(" ")}`);
  }
}

/** A $ref stands alone in OpenAPI 3.0, so a described one is wrapped in allOf, as Kubernetes does. */
function described(schema: Schema, description: string | undefined): Schema {
  if (description === undefined || description === "") return schema;
  if (schema.$ref !== undefined) return { description, allOf: [schema] };
  return { description, ...schema };
}

export function parseDeclaration(text: string, context: TypingsContext): Schema {
  // The class that follows the interface repeats it and holds syntax of its own.
  const end = text.search(/^(\/\*\*(?:(?!\*\/)[\s\S])*\*\/\n)?export declare class/m);
  const parser = new Parser(end < 0 ? text : text.slice(0, end), context);
  if (parser.seek(["export", "interface"])) {
    const { description, parent } = parser.heading("{");
    const own = parser.members();
    // TypeMeta, apiVersion and kind, is added to every kind elsewhere.
    const base = parent === undefined || parent === "TypeMeta" ? {} : context.inherited(parent);
    return described(merged(base, own), description);
  }
  const aliased = new Parser(text, context);
  if (!aliased.seek(["export", "type"])) throw new Error("the typings declare neither an interface nor an alias");
  const { description } = aliased.heading("=");
  return described(aliased.alias(), description);
}

function merged(base: Schema, own: Schema): Schema {
  const required = [...(base.required ?? []), ...(own.required ?? [])];
  const properties = { ...base.properties, ...own.properties };
  return {
    ...own,
    ...(Object.keys(properties).length > 0 && { properties }),
    ...(required.length > 0 && { required }),
  };
}
