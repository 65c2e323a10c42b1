// Message descriptors that are made when somebody asks for them. Copied into gen/ and imported by the generated files, in place of the
// library's, which decode and link every descriptor of every imported file at load: 190 ms and 20 MB in each process, for a few dozen
// messages that are ever used. What is made here has the library's shape (DescFile, DescMessage, …), so its functions take it.

/** name, fields (see Field), names of oneofs, nested messages, nested enums. */
type MessageSource = readonly [string, string, string, (readonly MessageSource[])?, (readonly EnumSource[])?];
/** name, "number name localName" per value, shared prefix. */
type EnumSource = readonly [string, string, string];

const types = new Map<string, LazyMessage | LazyEnum>();

class LazyFile {
  readonly kind = "file";
  readonly deprecated = false;
  readonly extensions = [];
  readonly services = [];
  readonly proto: { name: string; package: string };
  readonly messages: readonly LazyMessage[];
  readonly enums: readonly LazyEnum[];

  constructor(
    readonly name: string,
    pack: string,
    readonly edition: number,
    readonly dependencies: readonly LazyFile[],
    messages: readonly MessageSource[],
    enums: readonly EnumSource[],
  ) {
    this.proto = { name: `${name}.proto`, package: pack };
    this.messages = messages.map((source) => new LazyMessage(source, this, undefined));
    this.enums = enums.map((source) => new LazyEnum(source, this, undefined));
  }
  toString(): string {
    return `file ${this.proto.name}`;
  }
}

const typeNameOf = (name: string, file: LazyFile, parent: LazyMessage | undefined): string =>
  parent ? `${parent.typeName}.${name}` : `${file.proto.package}.${name}`;

class LazyMessage {
  readonly kind = "message";
  readonly deprecated = false;
  readonly nestedExtensions = [];
  readonly name: string;
  readonly typeName: string;
  readonly nestedMessages: readonly LazyMessage[];
  readonly nestedEnums: readonly LazyEnum[];
  readonly #fields: string;
  readonly #oneofs: string;
  #made: ReturnType<typeof makeFields> | undefined;

  constructor(
    [name, fields, oneofs, messages = [], enums = []]: MessageSource,
    readonly file: LazyFile,
    readonly parent: LazyMessage | undefined,
  ) {
    this.name = name;
    this.typeName = typeNameOf(name, file, parent);
    this.#fields = fields;
    this.#oneofs = oneofs;
    this.nestedMessages = messages.map((source) => new LazyMessage(source, file, this));
    this.nestedEnums = enums.map((source) => new LazyEnum(source, file, this));
    types.set(this.typeName, this);
  }
  #make(): ReturnType<typeof makeFields> {
    this.#made ??= makeFields(this, this.#fields, this.#oneofs);
    return this.#made;
  }
  get fields(): readonly Field[] {
    return this.#make().fields;
  }
  get field(): Record<string, Field> {
    return this.#make().field;
  }
  get oneofs(): readonly Oneof[] {
    return this.#make().oneofs;
  }
  get members(): readonly (Field | Oneof)[] {
    return this.#make().members;
  }
  toString(): string {
    return `message ${this.typeName}`;
  }
}

class Oneof {
  readonly kind = "oneof";
  readonly deprecated = false;
  readonly fields: Field[] = [];
  readonly localName: string;

  constructor(
    readonly parent: LazyMessage,
    readonly name: string,
  ) {
    this.localName = camel(name);
  }
  toString(): string {
    return `oneof ${this.parent.typeName}.${this.name}`;
  }
}

type Kind = "scalar" | "message" | "enum";

/**
 * From "<number> <name> <type> <presence><flags> <oneof> <localName> <jsonName>"; the last three are left out where they say nothing
 * new. Type: s<scalar>, m<message>, e<enum>; l before it for a list, p<key>: for a map. Flags: u UTF-8 is checked, k packed, g delimited.
 */
class Field {
  readonly kind = "field";
  readonly deprecated = false;
  readonly longAsString = false;
  readonly name: string;
  readonly number: number;
  readonly presence: number;
  readonly utf8Validation: boolean;
  readonly oneof: Oneof | undefined;
  readonly localName: string;
  readonly jsonName: string;
  readonly fieldKind: Kind | "list" | "map";
  readonly listKind: Kind | undefined;
  readonly mapKind: Kind | undefined;
  readonly mapKey: number | undefined;
  readonly scalar: number | undefined;
  readonly message: LazyMessage | undefined;
  readonly enum: LazyEnum | undefined;
  readonly delimitedEncoding: boolean | undefined;
  readonly packed: boolean | undefined;
  readonly getDefaultValue: (() => undefined) | undefined;

  constructor(
    readonly parent: LazyMessage,
    text: string,
    oneofs: readonly Oneof[],
  ) {
    const [number, name = "", type = "", traits = "", oneof = "", localName, jsonName] = text.split(" ");
    this.name = name;
    this.number = Number(number);
    this.presence = Number(traits[0]);
    this.utf8Validation = traits.includes("u");
    this.oneof = oneof === "" ? undefined : oneofs[Number(oneof)];
    this.localName = localName || camel(name);
    this.jsonName = jsonName || camel(name);
    const container = type[0] === "p" ? "map" : type[0] === "l" ? "list" : undefined;
    const colon = type.indexOf(":");
    const inner = container === "map" ? type.slice(colon + 1) : container === "list" ? type.slice(1) : type;
    const rest = inner.slice(1);
    const found = inner[0] === "s" ? undefined : types.get(rest);
    if (inner[0] === "s") this.scalar = Number(rest);
    else if (found?.kind === "message") this.message = found;
    else if (found?.kind === "enum") this.enum = found;
    else throw new Error(`the descriptor of ${rest} is not loaded`);
    const kind = found?.kind ?? "scalar";
    this.fieldKind = container ?? kind;
    this.listKind = container === "list" ? kind : undefined;
    this.mapKind = container === "map" ? kind : undefined;
    this.mapKey = container === "map" ? Number(type.slice(1, colon)) : undefined;
    this.delimitedEncoding = container === "map" ? false : kind === "message" ? traits.includes("g") : undefined;
    this.packed = container === "list" ? traits.includes("k") : undefined;
    this.getDefaultValue = container === undefined ? noDefault : undefined;
  }
  toString(): string {
    return `field ${this.parent.typeName}.${this.name}`;
  }
}

const noDefault = (): undefined => undefined;

const camel = (name: string): string => name.replace(/_+(.)/g, (_, letter: string) => letter.toUpperCase());

function makeFields(message: LazyMessage, fieldsText: string, oneofsText: string) {
  const oneofs = oneofsText === "" ? [] : oneofsText.split(" ").map((name) => new Oneof(message, name));
  const fields: Field[] = [];
  const field: Record<string, Field> = {};
  const members: (Field | Oneof)[] = [];
  if (fieldsText !== "")
    for (const text of fieldsText.split(";")) {
      const made = new Field(message, text, oneofs);
      fields.push(made);
      field[made.localName] = made;
      const { oneof } = made;
      if (oneof === undefined) members.push(made);
      else {
        if (oneof.fields.length === 0) members.push(oneof);
        oneof.fields.push(made);
      }
    }
  return { fields, field, oneofs, members };
}

class LazyEnum {
  readonly kind = "enum";
  readonly deprecated = false;
  readonly open = true;
  readonly name: string;
  readonly typeName: string;
  readonly sharedPrefix: string | undefined;
  readonly #text: string;
  #values: EnumValue[] | undefined;

  constructor(
    [name, values, prefix]: EnumSource,
    readonly file: LazyFile,
    readonly parent: LazyMessage | undefined,
  ) {
    this.name = name;
    this.typeName = typeNameOf(name, file, parent);
    this.#text = values;
    this.sharedPrefix = prefix === "" ? undefined : prefix;
    types.set(this.typeName, this);
  }
  get values(): readonly EnumValue[] {
    this.#values ??= this.#text.split(";").map((text) => {
      const [number, name = "", localName = ""] = text.split(" ");
      return {
        kind: "enum_value",
        deprecated: false,
        parent: this,
        name,
        localName,
        number: Number(number),
        jsonName: name,
        toString: () => `enum value ${this.typeName}.${name}`,
      } as const;
    });
    return this.#values;
  }
  get value(): Record<number, EnumValue> {
    const byNumber: Record<number, EnumValue> = {};
    for (const value of this.values) byNumber[value.number] ??= value;
    return byNumber;
  }
  toString(): string {
    return `enum ${this.typeName}`;
  }
}

interface EnumValue {
  readonly kind: "enum_value";
  readonly deprecated: false;
  readonly parent: LazyEnum;
  readonly name: string;
  readonly localName: string;
  readonly number: number;
  readonly jsonName: string;
}

// ---- what generated files call, as the library's functions of these names ----

export const fileDesc = (...source: ConstructorParameters<typeof LazyFile>): LazyFile => new LazyFile(...source);

export function messageDesc(file: LazyFile, index: number, ...nested: number[]): LazyMessage {
  return nested.reduce((message, at) => message.nestedMessages[at]!, file.messages[index]!);
}

export function enumDesc(file: LazyFile, index: number, ...nested: number[]): LazyEnum {
  const last = nested.pop();
  return last === undefined ? file.enums[index]! : messageDesc(file, index, ...nested).nestedEnums[last]!;
}

/** As a TypeScript enum: names to numbers and back. */
export function tsEnum(desc: LazyEnum): Record<string, string | number> {
  const object: Record<string, string | number> = {};
  for (const { localName, number } of desc.values) {
    object[localName] = number;
    object[number] = localName;
  }
  return object;
}
