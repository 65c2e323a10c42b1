// Kinds by name.

import type { KindDefinition } from "../kind.ts";
import { allKinds } from "./all.ts";

const kinds = new Map(allKinds.map((kind) => [`${kind.kind}.${kind.group}`, kind]));

export const kindOfObject = (kind: string, group: string): KindDefinition | undefined => kinds.get(`${kind}.${group}`);
