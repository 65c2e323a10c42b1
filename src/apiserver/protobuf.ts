// Decodes request bodies in Kubernetes' protobuf (what typed Go clients send by default, kubectl create among them) into JSON.
// Names and numbers of the fields are Kubernetes' own (k8s.io/api v0.33, Apache-2.0), written by tools/kube-protobuf.ts.

import { badRequest, unsupportedMediaType } from "./failure.ts";

/** "k8s\0", then a runtime.Unknown: the type of the object and its bytes. */
const magic = Buffer.from("k8s\0");
const depthMax = 64;

type Json = Record<string, unknown>;

interface Field {
  /** "*": its fields stand beside those of its parent. */
  name: string;
  shape: "one" | "list" | "map";
  /** s text, y bytes, b boolean, i integer, otherwise the name of a message. */
  type: string;
  /** Zero or empty means absent. */
  zeroIsAbsent: boolean;
}
type Schema = ReadonlyMap<string, ReadonlyMap<number, Field>>;

let schema: Promise<Schema> | undefined;

/** Throws 400 for bytes that are no such object and 415 for a kind whose protobuf is not known. */
export async function decodeProtobuf(bytes: Uint8Array): Promise<Json> {
  schema ??= loadSchema();
  if (!Buffer.from(bytes.subarray(0, 4)).equals(magic)) throw badRequest("the body is not Kubernetes protobuf");
  const envelope = new Reader(bytes, 4, bytes.length);
  let typeMeta: Uint8Array = new Uint8Array();
  let raw: Uint8Array = new Uint8Array();
  for (let tag = envelope.tag(); tag !== undefined; tag = envelope.tag())
    if (tag.number === 1) typeMeta = envelope.bytes(tag.wireType);
    else if (tag.number === 2) raw = envelope.bytes(tag.wireType);
    else envelope.skip(tag.wireType);
  const [apiVersion, kind] = readTypeMeta(typeMeta);
  const messages = await schema;
  const message = messageOf(apiVersion, kind);
  if (!messages.has(message))
    throw unsupportedMediaType(`${apiVersion} ${kind} is not understood in protobuf: send JSON`);
  const object = decodeMessage(messages, message, new Reader(raw, 0, raw.length), 0) as Json;
  return { apiVersion, kind, ...object };
}

function readTypeMeta(bytes: Uint8Array): [apiVersion: string, kind: string] {
  const reader = new Reader(bytes, 0, bytes.length);
  let apiVersion = "";
  let kind = "";
  for (let tag = reader.tag(); tag !== undefined; tag = reader.tag())
    if (tag.number === 1) apiVersion = reader.text(tag.wireType);
    else if (tag.number === 2) kind = reader.text(tag.wireType);
    else reader.skip(tag.wireType);
  return [apiVersion, kind];
}

/** "rbac.authorization.k8s.io/v1", "Role" → "rbac.v1.Role". */
function messageOf(apiVersion: string, kind: string): string {
  if (kind === "DeleteOptions") return "meta.v1.DeleteOptions";
  const [group, version] = apiVersion.includes("/") ? apiVersion.split("/") : ["core", apiVersion];
  return `${group!.split(".")[0]}.${version}.${kind}`;
}

async function loadSchema(): Promise<Schema> {
  const { default: text } = await import("./protobuf-schema.json");
  return new Map(
    Object.entries(text as Record<string, string>).map(([message, fields]) => [
      message,
      new Map(
        fields
          .split(";")
          .filter((field) => field !== "")
          .map((field) => {
            const [number, name, type] = field.split(" ") as [string, string, string];
            return [Number(number), { name, ...shapeOf(type) }];
          }),
      ),
    ]),
  );
}

function shapeOf(text: string): Omit<Field, "name"> {
  const shape = text[0] === "[" ? "list" : text[0] === "{" ? "map" : "one";
  const type = text.replace(/^[[{]/, "").replace(/-$/, "").replace(/^@/, "");
  return { shape, type, zeroIsAbsent: text.endsWith("-") };
}

function decodeMessage(messages: Schema, name: string, reader: Reader, depth: number): unknown {
  if (depth > depthMax) throw badRequest(`the body is nested deeper than ${depthMax} levels`);
  const fields = messages.get(name)!;
  const object: Json = {};
  for (let tag = reader.tag(); tag !== undefined; tag = reader.tag()) {
    const field = fields.get(tag.number);
    if (field === undefined) throw badRequest(`field ${tag.number} of ${name} is not known here: send JSON`);
    if (field.shape === "map") {
      object[field.name] ??= {};
      decodeEntry(messages, field.type, reader.nested(tag.wireType), object[field.name] as Json, depth);
      continue;
    }
    const value = decodeValue(messages, field.type, reader, tag.wireType, depth);
    if (field.name === "*") Object.assign(object, value);
    else if (field.shape === "list") {
      object[field.name] ??= [];
      (object[field.name] as unknown[]).push(value);
    } else if (!field.zeroIsAbsent || (value !== 0 && value !== "" && value !== false)) object[field.name] = value;
  }
  return fromWellKnown(name, object);
}

function decodeEntry(messages: Schema, type: string, reader: Reader, map: Json, depth: number): void {
  let key = "";
  let value: unknown = type === "s" || type === "y" ? "" : undefined;
  for (let tag = reader.tag(); tag !== undefined; tag = reader.tag())
    if (tag.number === 1) key = reader.text(tag.wireType);
    else if (tag.number === 2) value = decodeValue(messages, type, reader, tag.wireType, depth);
    else reader.skip(tag.wireType);
  if (key === "__proto__") throw badRequest('"__proto__" is not a key');
  map[key] = value ?? {};
}

function decodeValue(messages: Schema, type: string, reader: Reader, wireType: number, depth: number): unknown {
  switch (type) {
    case "s":
      return reader.text(wireType);
    case "y":
      return Buffer.from(reader.bytes(wireType)).toString("base64");
    case "b":
      return reader.integer(wireType) !== 0;
    case "i":
      return reader.integer(wireType);
    default:
      return decodeMessage(messages, type, reader.nested(wireType), depth + 1);
  }
}

/** Messages that JSON writes as one value. */
function fromWellKnown(name: string, object: Json): unknown {
  switch (name) {
    case "meta.v1.Time":
      return object["seconds"] === undefined ? null : timeText(object, 0);
    case "meta.v1.MicroTime":
      return object["seconds"] === undefined ? null : timeText(object, 6);
    case "resource.Quantity":
      return object["string"] ?? "0";
    case "intstr.IntOrString":
      return object["type"] === 1 ? (object["strVal"] ?? "") : (object["intVal"] ?? 0);
    case "meta.v1.FieldsV1":
      // Part of managedFields, which are not kept.
      return {};
    default:
      return object;
  }
}

function timeText({ seconds, nanos = 0 }: Json, digits: number): string {
  const date = new Date((seconds as number) * 1000);
  if (Number.isNaN(date.getTime())) throw badRequest(`${seconds} seconds are no time`);
  const whole = date.toISOString().slice(0, 19);
  const fraction = String(nanos).padStart(9, "0").slice(0, digits);
  return `${whole}${digits === 0 ? "" : `.${fraction}`}Z`;
}

/** Protobuf's wire format; every read is checked against the end of its message. */
class Reader {
  readonly #bytes: Uint8Array;
  #at: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.#bytes = bytes;
    this.#at = at;
    this.#end = end;
  }

  tag(): { number: number; wireType: number } | undefined {
    if (this.#at >= this.#end) return undefined;
    const tag = this.#varint();
    return { number: Number(tag >> 3n), wireType: Number(tag & 7n) };
  }

  integer(wireType: number): number {
    if (wireType !== 0) this.#malformed();
    return Number(BigInt.asIntN(64, this.#varint()));
  }

  bytes(wireType: number): Uint8Array {
    const start = this.#length(wireType);
    return this.#bytes.subarray(start, this.#at);
  }

  text(wireType: number): string {
    return Buffer.from(this.bytes(wireType)).toString();
  }

  nested(wireType: number): Reader {
    const start = this.#length(wireType);
    return new Reader(this.#bytes, start, this.#at);
  }

  skip(wireType: number): void {
    if (wireType === 0) this.#varint();
    else if (wireType === 2) this.#length(2);
    else if (wireType === 1) this.#advance(8);
    else if (wireType === 5) this.#advance(4);
    else this.#malformed();
  }

  /** Start of a length-delimited value; moves behind it. */
  #length(wireType: number): number {
    if (wireType !== 2) this.#malformed();
    const length = Number(this.#varint());
    const start = this.#at;
    this.#advance(length);
    return start;
  }

  #advance(count: number): void {
    if (count > this.#end - this.#at) this.#malformed();
    this.#at += count;
  }

  #varint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (this.#at >= this.#end) this.#malformed();
      const byte = this.#bytes[this.#at++]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return this.#malformed();
  }

  #malformed(): never {
    throw badRequest("the body is not valid protobuf");
  }
}
