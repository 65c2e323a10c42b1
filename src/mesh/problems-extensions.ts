// The kinds that are accepted and not carried out at all: what they would have changed stays as it is. Pure.

import type { EnvoyFilter, ProxyConfig, WasmPlugin } from "../api/types.ts";
import { collect } from "./problems.ts";
import type { Problem } from "./types.ts";

export const envoyFilterProblems = (object: EnvoyFilter): Problem[] =>
  collect(object, (report) => {
    report("spec.configPatches", "patches to Envoy's configuration are not applied; the proxies stay as they are");
  });

export const wasmPluginProblems = (object: WasmPlugin): Problem[] =>
  collect(object, (report) => {
    report("spec.url", "WebAssembly modules are neither fetched nor run; requests pass as without the plugin");
  });

export const proxyConfigProblems = (object: ProxyConfig): Problem[] =>
  collect(object, (report) => {
    for (const field of Object.keys(object.spec ?? {}))
      if (field !== "selector") report(`spec.${field}`, "is not carried out: one proxy process serves a whole node");
  });
