// `meshbed explain`: what would happen to one request and why, from files or from the running testbed.

import { readFileSync } from "node:fs";
import { manifestFiles } from "../cluster/manifests.ts";
import { createContext } from "../explain/context.ts";
import { explain as explainRequest } from "../explain/explain.ts";
import { render } from "../explain/render.ts";
import type { World } from "../explain/types.ts";
import { worldOfFiles } from "../explain/world.ts";
import { realClock } from "../kernel/clock.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { paint } from "./terminal.ts";

export interface ExplainOptions {
  from?: string;
  header: string[];
  file: string[];
  send: boolean;
  output?: "json";
  state: string;
}

export async function explain(method: string, url: string, options: ExplainOptions): Promise<void> {
  const world =
    options.file.length > 0
      ? filesWorld(options.file)
      : await (await import("./explain_live.ts")).liveWorld(options.state);
  const context = createContext(world);
  const ask = {
    method,
    url,
    headers: options.header.map(readHeader),
    ...(options.from !== undefined && { from: options.from }),
  };
  const explanation = await explainRequest(context, ask);
  if (options.output === "json") console.log(JSON.stringify(explanation, null, 2));
  else for (const line of render(explanation, paint)) console.log(line);
  if (options.send) await (await import("./explain_live.ts")).sendAndCompare(options.state, ask, explanation, context);
  context.close();
}

export function filesWorld(paths: readonly string[]): World {
  const files = paths.flatMap(manifestFiles);
  return worldOfFiles(
    files.map((file) => ({ file, text: readFileSync(file, "utf8") })),
    realClock.now(),
  );
}

/** "name: value", as curl takes it. */
export function readHeader(text: string): readonly [string, string] {
  const [, name, value] = /^([^\s:]+)\s*:\s*(.*)$/.exec(text) ?? [];
  if (name === undefined)
    throw new MeshbedError("EXPLAIN_HEADER", `-H ${JSON.stringify(text)} is no header`, {
      fix: 'write it as "name: value"',
    });
  return [name, value ?? ""];
}
