// The explicit list of HTTP filters: message type → factory. Everything else in a chain is refused (NACK) unless it is optional.

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { type Any, anyUnpack } from "@bufbuild/protobuf/wkt";
import type { HttpFilter } from "#gen/xds/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import type { Clock } from "../../kernel/clock.ts";
import { MeshbedError } from "../../kernel/errors.ts";
import type { Random } from "../../kernel/random.ts";
import type { Filter } from "../filter.ts";
import { faultFactory } from "./fault.ts";

export interface FilterDeps {
  clock: Clock;
  random: Random;
}

/** One kind of filter. `settings` is the per-route form, `create` the filter with its chain-wide form. */
export interface FilterFactory<Config extends DescMessage = DescMessage, PerRoute extends DescMessage = DescMessage> {
  config: Config;
  perRoute: PerRoute;
  create(name: string, config: MessageShape<Config>, deps: FilterDeps): Filter;
  settings(message: MessageShape<PerRoute>): unknown;
}

/** In no particular order: a chain runs its filters as http_filters lists them. */
const factories: readonly FilterFactory[] = [
  // Delays and aborts, for experiments.
  faultFactory as unknown as FilterFactory,
];

/** The router ends every chain and is the forwarding itself. */
const routerType = "envoy.extensions.filters.http.router.v3.Router";

const typeName = (any: Any): string => any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1);

export function compileFilters(filters: readonly HttpFilter[], deps: FilterDeps): Filter[] {
  const chain: Filter[] = [];
  for (const { name, configType, isOptional, disabled } of filters) {
    if (disabled) continue;
    const config = configType.case === "typedConfig" ? configType.value : undefined;
    const type = config && typeName(config);
    if (type === routerType) continue;
    const factory = factories.find(({ config: schema }) => schema.typeName === type);
    if (config && factory) chain.push(factory.create(name, anyUnpack(config, factory.config)!, deps));
    else if (!isOptional)
      throw new MeshbedError(
        "FILTER_UNSUPPORTED",
        `HTTP filter ${name} (${type ?? "no typed config"}) is not supported`,
      );
  }
  return chain;
}

/** Per-route settings by filter name; a route's replace its virtual host's. */
export function compileFilterSettings(
  ...levels: readonly Readonly<Record<string, Any>>[]
): ReadonlyMap<string, unknown> {
  const settings = new Map<string, unknown>();
  for (const level of levels)
    for (const [name, any] of Object.entries(level)) {
      const factory = factories.find(({ perRoute }) => perRoute.typeName === typeName(any));
      if (!factory)
        throw new MeshbedError("FILTER_UNSUPPORTED", `route settings of ${name} (${typeName(any)}) are not supported`);
      settings.set(name, factory.settings(anyUnpack(any, factory.perRoute)!));
    }
  return settings;
}
