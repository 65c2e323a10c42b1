// Rewrites the generated message files: descriptors as short texts that tools/descriptors.ts reads on demand, instead of encoded protos
// that are decoded and linked at load. Options (validation rules, annotations) are left out: nobody reads them.
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import type { DescEnum, DescField, DescFile, DescMessage } from "@bufbuild/protobuf";
import { protoCamelCase } from "@bufbuild/protobuf/reflect";

const annotations = /^(validate|udpa\/annotations|xds\/annotations|envoy\/annotations)\//;
const wellKnownFile = "google/protobuf/well_known_pb.js";

/** Rewrites every *_pb.js below `folder`. */
export async function writeLazyDescriptors(folder: string): Promise<void> {
  copyFileSync(join(import.meta.dir, "descriptors.ts"), join(folder, "descriptors.ts"));
  const names = [...new Bun.Glob("**/*_pb.js").scanSync(folder)];
  const wellKnown = new Map<string, DescFile>();
  const texts = new Map<string, string>();
  for (const name of names.filter((each) => !annotations.test(each))) {
    const module = (await import(join(folder, name))) as Record<string, unknown>;
    const file = Object.values(module).find((value): value is DescFile => (value as DescFile)?.kind === "file");
    if (!file) throw new Error(`${name} exports no file descriptor`);
    for (const each of file.dependencies) if (each.name.startsWith("google/protobuf/")) wellKnown.set(each.name, each);
    texts.set(name, rewritten(readFileSync(join(folder, name), "utf8"), name, file));
  }
  for (const [name, text] of texts) writeFileSync(join(folder, name), text);
  for (const name of names.filter((each) => annotations.test(each)))
    for (const path of [name, name.replace(/\.js$/, ".d.ts")]) rmSync(join(folder, path));
  const calls = [...wellKnown.values()].map((file) => `${sourceOf(file, "[]")};\n`).join("");
  mkdirSync(join(folder, dirname(wellKnownFile)), { recursive: true });
  writeFileSync(join(folder, wellKnownFile), `import { fileDesc } from "../../descriptors.ts";\n${calls}`);
}

/** The same exports from other descriptors. */
function rewritten(source: string, name: string, file: DescFile): string {
  const up = relative(dirname(name), ".") || ".";
  const dependencies: string[] = [];
  let usesWellKnown = false;
  const text = source
    .replaceAll(/^import \{ ([^}]+) \} from "([^"]+)";\n/gm, (line, symbols: string, from: string) => {
      if (from === "@bufbuild/protobuf/codegenv2") return `import { ${symbols} } from "${up}/descriptors.ts";\n`;
      if (from === "@bufbuild/protobuf/wkt") usesWellKnown = true;
      if (from.startsWith("@bufbuild/") || annotations.test(join(dirname(name), from))) return "";
      dependencies.push(symbols);
      return line.replace('";\n', '.js";\n');
    })
    .replace(/fileDesc\("[^"]*"(, \[[^\]]*\])?\)/, () => sourceOf(file, `[${dependencies.join(", ")}]`));
  if (/serviceDesc|extDesc|"@bufbuild/.test(text)) throw new Error(`${name} has parts that are not carried over`);
  return usesWellKnown ? text.replace(/^import /m, `import "${up}/${wellKnownFile}";\nimport `) : text;
}

function sourceOf(file: DescFile, dependencies: string): string {
  const [name, pack] = [file.name, file.proto.package].map((text) => JSON.stringify(text));
  const messages = file.messages.map(messageSource);
  const enums = file.enums.map(enumSource);
  return `fileDesc(${name}, ${pack}, ${file.edition}, ${dependencies}, ${JSON.stringify(messages)}, ${JSON.stringify(enums)})`;
}

type MessageSource = [string, string, string, MessageSource[], [string, string, string][]];

function messageSource(message: DescMessage): MessageSource {
  const fields = message.fields.map((field) => fieldSource(field, message));
  const oneofs = message.oneofs.map(({ name }) => name);
  const nested = message.nestedMessages.map(messageSource);
  return [message.name, fields.join(";"), oneofs.join(" "), nested, message.nestedEnums.map(enumSource)];
}

/** See Field in descriptors.ts. */
function fieldSource(field: DescField, message: DescMessage): string {
  if (field.proto.defaultValue !== "") throw new Error(`${field}: defaults are not carried over`);
  const single = field.enum
    ? `e${field.enum.typeName}`
    : field.message
      ? `m${field.message.typeName}`
      : `s${field.scalar}`;
  const type =
    field.fieldKind === "map" ? `p${field.mapKey}:${single}` : field.fieldKind === "list" ? `l${single}` : single;
  const isDelimited = "delimitedEncoding" in field && field.delimitedEncoding;
  const isPacked = field.fieldKind === "list" && field.packed;
  const flags = [field.utf8Validation && "u", isPacked && "k", isDelimited && "g"].filter(Boolean).join("");
  const camel = protoCamelCase(field.name);
  const parts = [
    field.number,
    field.name,
    type,
    `${field.presence}${flags}`,
    field.oneof ? message.oneofs.indexOf(field.oneof) : "",
    field.localName === camel ? "" : field.localName,
    field.jsonName === camel ? "" : field.jsonName,
  ];
  return parts.join(" ").trimEnd();
}

function enumSource({ name, typeName, open, values, sharedPrefix }: DescEnum): [string, string, string] {
  if (!open) throw new Error(`${typeName}: closed enums are not carried over`);
  const texts = values.map((value) => `${value.number} ${value.name} ${value.localName}`);
  return [name, texts.join(";"), sharedPrefix ?? ""];
}
