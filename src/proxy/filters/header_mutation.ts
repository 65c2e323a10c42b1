// Header changes in the order they are listed (envoy.filters.http.header_mutation), for requests and answers, per chain and route.

import type { HeaderMutation } from "#gen/xds/envoy/config/common/mutation_rules/v3/mutation_rules_pb.js";
import {
  HeaderMutationPerRouteSchema,
  HeaderMutationSchema,
  type Mutations as MutationsMessage,
} from "#gen/xds/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.js";
import { compileHeaderRules } from "../compile/headers.ts";
import type { FilterFactory } from "../filter.ts";
import type { HeaderRules } from "../routing/route.ts";

interface Mutations {
  request: readonly HeaderRules[];
  response: readonly HeaderRules[];
}

function compile(message: MutationsMessage | undefined): Mutations {
  const rulesOf = (mutations: readonly HeaderMutation[] = []): HeaderRules[] =>
    mutations.flatMap(({ action }) => {
      const rules =
        action.case === "append"
          ? compileHeaderRules([action.value], [])
          : compileHeaderRules([], action.value ? [action.value] : []);
      return rules ? [rules] : [];
    });
  return { request: rulesOf(message?.requestMutations), response: rulesOf(message?.responseMutations) };
}

export const headerMutationFactory: FilterFactory<typeof HeaderMutationSchema, typeof HeaderMutationPerRouteSchema> = {
  config: HeaderMutationSchema,
  perRoute: HeaderMutationPerRouteSchema,
  create(name, { mutations, mostSpecificHeaderMutationsWins: specificLast }) {
    const own = compile(mutations);
    /** The chain's own come first; then the levels of the route, the one that is to win last. */
    const all = (levels: readonly Mutations[] | undefined): readonly Mutations[] =>
      levels === undefined ? [own] : [own, ...(specificLast ? levels.toReversed() : levels)];
    return {
      name,
      onRequest(exchange) {
        for (const { request } of all(exchange.settings(name) as Mutations[] | undefined))
          for (const rules of request) exchange.applyRequestRules(rules);
        return "continue";
      },
      onResponse(exchange, answer) {
        for (const { response } of all(exchange.settings(name) as Mutations[] | undefined))
          for (const rules of response) answer.applyRules(rules);
      },
    };
  },
  /** Innermost first. */
  settings: ({ mutations }, outer): Mutations[] => [compile(mutations), ...((outer as Mutations[] | undefined) ?? [])],
};
