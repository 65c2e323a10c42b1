// How the JavaScript engine of meshbed's own processes is set: a dozen of them start together on few cores.

/**
 * Calls before JavaScriptCore compiles a function (its defaults: 500 for the first compiler, 1000 for the optimizing one).
 * Start-up without the optimizing compiler takes a fifth less CPU time: at the defaults it compiles code that runs once.
 * Later compilation costs a proxy some speed while it warms up; after some ten seconds of load no difference was clear.
 */
export const engineSettings: Readonly<Record<string, string>> = {
  BUN_JSC_thresholdForJITSoon: "500",
  BUN_JSC_thresholdForJITAfterWarmUp: "2000",
  BUN_JSC_thresholdForOptimizeSoon: "20000",
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "20000",
  BUN_JSC_thresholdForOptimizeAfterLongWarmUp: "20000",
};

/**
 * Of the control plane. JavaScriptCore lets the heap grow by how much memory the machine has; told of little, it collects more often.
 * With 1,000 services and 50 workloads: 240 MiB instead of 400, and the times of changes the same (bench/mesh.ts).
 */
export const controlPlaneSettings: Readonly<Record<string, string>> = { BUN_JSC_forceRAMSize: "200000000" };

/** This process's environment with the settings; what its user set stays. */
export function tunedEnvironment(): Record<string, string> {
  const own = Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return { ...engineSettings, ...Object.fromEntries(own) };
}
