// A change told by xDS, compiled resource by resource: one that cannot be used does not keep the others from going live.

import { messageOf } from "../../kernel/errors.ts";
import type { Refusals, ResourceChange } from "../../xds/types.ts";

/** What compiles, by name, and of the rest why not. */
export function compileAll<M, T>(
  { changed }: ResourceChange,
  compile: (message: M, name: string) => T,
): { made: ReadonlyMap<string, T>; refused: Refusals } {
  const made = new Map<string, T>();
  const refused = new Map<string, string>();
  for (const { name, message } of changed) {
    try {
      made.set(name, compile(message as M, name));
    } catch (error) {
      refused.set(name, messageOf(error));
    }
  }
  return { made, refused };
}
