// The shapes of Istio's kinds of which meshbed reads little: the library's typings spell out every oneof of them.

interface Custom<Spec> {
  apiVersion?: string;
  kind?: string;
  metadata?: object;
  spec?: Spec;
  status?: { [field: string]: unknown };
}

interface Selected {
  matchLabels?: Record<string, string>;
}

/** networking.istio.io EnvoyFilter; the patches are Envoy's configuration. */
export type IEnvoyFilter = Custom<{
  configPatches?: {
    applyTo?: string;
    match?: Record<string, unknown>;
    patch?: { operation?: string; value?: unknown; filterClass?: string };
  }[];
  priority?: number;
  targetRefs?: { group?: string; kind?: string; name?: string; namespace?: string }[];
  workloadSelector?: { labels?: Record<string, string> };
}>;

/** networking.istio.io WorkloadGroup */
export type IWorkloadGroup = Custom<{
  metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> };
  template?: {
    address?: string;
    ports?: Record<string, number>;
    labels?: Record<string, string>;
    network?: string;
    locality?: string;
    weight?: number;
    serviceAccount?: string;
  };
  probe?: Record<string, unknown>;
}>;

/** networking.istio.io ProxyConfig */
export type IProxyConfig = Custom<{
  selector?: Selected;
  concurrency?: number;
  environmentVariables?: Record<string, string>;
  image?: { imageType?: string };
}>;

/** extensions.istio.io WasmPlugin */
export type IWasmPlugin = Custom<{
  url?: string;
  phase?: string;
  priority?: number;
  pluginConfig?: Record<string, unknown>;
  pluginName?: string;
  selector?: Selected;
  targetRef?: { group?: string; kind?: string; name?: string; namespace?: string };
  targetRefs?: { group?: string; kind?: string; name?: string; namespace?: string }[];
  [field: string]: unknown;
}>;
