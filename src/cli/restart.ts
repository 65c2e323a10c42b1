// `meshbed restart`: replaces node proxies by new processes while traffic flows.

import { replaceableComponents, replaceComponent } from "../cluster/control.ts";
import { requireRunning } from "../cluster/state.ts";
import { paint } from "./terminal.ts";

/** One after another, so that a build that does not start is met once. */
export async function restart(stateDir: string, components: readonly string[]): Promise<void> {
  requireRunning(stateDir);
  process.chdir(stateDir);
  for (const component of components.length > 0 ? components : await replaceableComponents()) {
    const { tookMs } = await replaceComponent(component);
    console.log(`${paint.green("✓")} ${component} restarted in ${Math.round(tookMs)} ms; the old process drains`);
  }
}
