// Removes options (validation rules, annotations) from generated descriptors: nobody reads them and they cost start-up time.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { base64Decode, base64Encode } from "@bufbuild/protobuf/wire";
import { type DescriptorProto, type EnumDescriptorProto, FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";

const annotations = /\/(validate|annotations)\/\w+$/;
const importLine = /^import \{ (file_\w+)[^}]*\} from "([^"]+)";\n/gm;

/** Rewrites every *_pb.js below `folder`, except the annotations' own. */
export function stripDescriptors(folder: string): void {
  for (const name of new Bun.Glob("**/*_pb.js").scanSync(folder)) {
    if (/^(validate|udpa\/annotations|xds\/annotations|envoy\/annotations)\//.test(name)) continue;
    const path = join(folder, name);
    writeFileSync(path, stripped(readFileSync(path, "utf8")));
  }
}

function stripped(source: string): string {
  const encoded = /fileDesc\("([^"]*)"/.exec(source)?.[1];
  if (encoded === undefined) throw new Error("a generated file without a descriptor");
  const file = fromBinary(FileDescriptorProtoSchema, base64Decode(encoded));
  delete file.options;
  for (const message of file.messageType) stripMessage(message);
  for (const type of file.enumType) stripEnum(type);
  for (const service of file.service) {
    delete service.options;
    for (const method of service.method) delete method.options;
  }
  let text = source.replace(encoded, base64Encode(toBinary(FileDescriptorProtoSchema, file), "std_raw"));
  for (const [line, symbol, from] of source.matchAll(importLine)) {
    if (!annotations.test(from!)) continue;
    text = text.replace(line, "").replace(new RegExp(`(?:, )?\\b${symbol}\\b(?=[,\\]])`), "");
  }
  return text.replace(", []", "").replace("[, ", "[");
}

function stripMessage(message: DescriptorProto): void {
  const isMapEntry = message.options?.mapEntry === true;
  if (!isMapEntry) delete message.options;
  for (const field of message.field) delete field.options;
  for (const oneof of message.oneofDecl) delete oneof.options;
  for (const nested of message.nestedType) stripMessage(nested);
  for (const type of message.enumType) stripEnum(type);
}

function stripEnum(type: EnumDescriptorProto): void {
  delete type.options;
  for (const value of type.value) delete value.options;
}
