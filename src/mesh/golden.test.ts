// The golden cases of src/mesh/golden/: manifests in, xDS out.
import { expect, test } from "bun:test";
import { expectedOf, goldenCases, renderCase } from "./golden.ts";

for (const name of goldenCases())
  test(`${name} is translated as its golden file says (renew with: bun src/mesh/golden.ts --update)`, () => {
    expect(renderCase(name)).toBe(expectedOf(name));
  });
