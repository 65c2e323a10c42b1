// Envoy's names of log levels, on the command line and on the admin port, for ours.

import type { Level } from "../../kernel/log.ts";

export const envoyLevels: Readonly<Record<string, Level>> = {
  trace: "debug",
  debug: "debug",
  info: "info",
  warning: "warn",
  warn: "warn",
  error: "error",
  critical: "error",
};
