// How the JavaScript engine of meshbed's own processes is set: a dozen of them start together on few cores.

/**
 * Calls before JavaScriptCore compiles a function (its defaults: 500 for the first compiler, 1000 for the optimizing one).
 * At the defaults, the optimizing compiler takes a fifth of all CPU time until the first answer, for code that start-up
 * runs once; what a loaded proxy runs per request reaches these counts within its first second.
 */
export const engineSettings: Readonly<Record<string, string>> = {
  BUN_JSC_thresholdForJITSoon: "500",
  BUN_JSC_thresholdForJITAfterWarmUp: "2000",
  BUN_JSC_thresholdForOptimizeSoon: "20000",
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "20000",
  BUN_JSC_thresholdForOptimizeAfterLongWarmUp: "20000",
};

/** This process's environment with the settings; what its user set stays. */
export function tunedEnvironment(): Record<string, string> {
  const own = Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return { ...engineSettings, ...Object.fromEntries(own) };
}
