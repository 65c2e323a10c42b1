// Where logs and spans go: Istio's own providers, those of MeshConfig.extensionProviders, and which hold when nobody names one. Pure.

import type { ExtensionProvider } from "./mesh-settings.ts";
import type { Model, ServiceModel } from "./types.ts";

/** Those every Istio has. */
const builtIn: readonly ExtensionProvider[] = [
  { name: "envoy", envoyFileAccessLog: { path: "/dev/stdout" } },
  { name: "prometheus", prometheus: {} },
];

/** MeshConfig may say something else for a name. */
export const providerOf = ({ settings }: Model, name: string): ExtensionProvider | undefined =>
  [...(settings.extensionProviders ?? []), ...builtIn].find((provider) => provider.name === name);

export type FileLogProvider = NonNullable<ExtensionProvider["envoyFileAccessLog"]>;

export const fileLogOf = (model: Model, name: string): FileLogProvider | undefined =>
  providerOf(model, name)?.envoyFileAccessLog;

export const isMetricsProvider = (model: Model, name: string): boolean =>
  providerOf(model, name)?.prometheus !== undefined;

/** Whom spans are sent to. */
export interface Collector {
  service: ServiceModel;
  port: number;
  /** As the provider has it: the host its requests are for. */
  host: string;
  zipkin?: ExtensionProvider["zipkin"];
  opentelemetry?: ExtensionProvider["opentelemetry"];
}

/** A text instead: why there is none. */
export function collectorOf(model: Model, name: string): Collector | string {
  const provider = providerOf(model, name);
  const { zipkin, opentelemetry } = provider ?? {};
  const target = zipkin ?? opentelemetry;
  if (provider === undefined) return `there is no provider "${name}"`;
  if (target === undefined) return `"${name}" is neither a zipkin nor an opentelemetry provider`;
  // "namespace/host" is Istio's way to choose among services of one name; here names are unique.
  const host = target.service.slice(target.service.indexOf("/") + 1).toLowerCase();
  const service =
    model.serviceByHost.get(host) ??
    model.serviceByHost.get(`${host}.svc.${model.config.clusterDomain}`) ??
    model.serviceByHost.get(`${host}.${model.config.clusterDomain}`);
  if (service === undefined) return `there is no service ${target.service} for provider "${name}"`;
  if (!service.ports.some(({ port }) => port === target.port))
    return `service ${target.service} of provider "${name}" has no port ${target.port}`;
  return { service, port: target.port, host, ...(zipkin && { zipkin }), ...(opentelemetry && { opentelemetry }) };
}

/** The older way to name a Zipkin: "host:port" in MeshConfig.defaultConfig. */
export const legacyZipkin = "zipkin";

/** With its address as a provider, if that is how tracing is configured. */
export function withLegacyZipkin(model: Model): Model {
  const { settings } = model;
  const [, service, port] = /^(.+):(\d+)$/.exec(settings.defaultConfig?.tracing?.zipkin?.address ?? "") ?? [];
  if (service === undefined || providerOf(model, legacyZipkin) !== undefined) return model;
  const provider = { name: legacyZipkin, zipkin: { service, port: Number(port) } };
  return {
    ...model,
    settings: { ...settings, extensionProviders: [...(settings.extensionProviders ?? []), provider] },
  };
}

/** The first alone counts (Istio). */
export function defaultTracing({ settings }: Model): string | undefined {
  const [named] = settings.defaultProviders?.tracing ?? [];
  if (named !== undefined) return named;
  return settings.enableTracing && settings.defaultConfig?.tracing?.zipkin?.address ? legacyZipkin : undefined;
}
