// Lists the generated files whose messages appear inside a google.protobuf.Any (filters, transport sockets, tracers), in one module.
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** Writes extensions.js: `files`, the descriptors of everything below envoy/extensions and envoy/config/trace, and typed structs. */
export function writeExtensions(folder: string): void {
  const globs = [
    "envoy/extensions/**/*_pb.js",
    "envoy/config/trace/**/*_pb.js",
    "{udpa,xds}/type/*/typed_struct_pb.js",
  ];
  const paths = globs.flatMap((glob) => [...new Bun.Glob(glob).scanSync(folder)]).sort();
  const symbols = paths.map((path) => `file_${path.replace(/_pb\.js$/, "").replaceAll(/[/.-]/g, "_")}`);
  const imports = paths.map((path, index) => `import { ${symbols[index]} } from "./${path}";`);
  writeFileSync(
    join(folder, "extensions.js"),
    `${imports.join("\n")}\nexport const files = [${symbols.join(", ")}];\n`,
  );
  const types =
    'import type { DescFile } from "@bufbuild/protobuf";\nexport declare const files: readonly DescFile[];\n';
  writeFileSync(join(folder, "extensions.d.ts"), types);
}
