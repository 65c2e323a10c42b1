// Finds a virtual host's routes by path, so that a host with a thousand routes costs little more than one with ten. Same answer as
// trying them in order.

import { getOrAdd } from "../../kernel/map.ts";
import type { RequestView } from "../http/request.ts";
import { matches, type Route } from "./route.ts";

/** Fewer routes are tried one by one. */
const indexedRoutesMin = 8;

export class RouteIndex {
  readonly #routes: readonly Route[];
  /** Positions of routes for exactly this path. */
  readonly #exact = new Map<string, number[]>();
  /** Positions of routes for paths that begin with a text of this length. */
  readonly #prefixes: { length: number; positions: Map<string, number[]> }[] = [];
  /** Those that the path's text cannot rule out. */
  readonly #others: number[] = [];

  constructor(routes: readonly Route[]) {
    this.#routes = routes;
    for (const [position, route] of routes.entries()) this.#positionsFor(route).push(position);
  }

  #positionsFor({ path }: Route): number[] {
    if (path.kind === "regex" || path.kind === "connect" || path.ignoreCase || path.value === "/") return this.#others;
    const { value } = path;
    if (path.kind === "path") return getOrAdd(this.#exact, value, () => []);
    let group = this.#prefixes.find(({ length }) => length === value.length);
    if (!group) {
      group = { length: value.length, positions: new Map() };
      this.#prefixes.push(group);
    }
    return getOrAdd(group.positions, value, () => []);
  }

  /** The first route whose every condition holds. */
  find(request: RequestView): Route | undefined {
    const path = request.pathOnly;
    let best = this.#first(this.#exact.get(path), this.#routes.length, request);
    for (let i = 0; i < this.#prefixes.length; i++) {
      const { length, positions } = this.#prefixes[i]!;
      if (length <= path.length) best = this.#first(positions.get(path.slice(0, length)), best, request);
    }
    return this.#routes[this.#first(this.#others, best, request)];
  }

  /** The first of `positions` before `best` whose route matches, else `best`. */
  #first(positions: readonly number[] | undefined, best: number, request: RequestView): number {
    if (positions === undefined) return best;
    for (let i = 0; i < positions.length && positions[i]! < best; i++)
      if (matches(this.#routes[positions[i]!]!, request)) return positions[i]!;
    return best;
  }
}

/** Undefined when trying them in order is as fast. */
export const indexRoutes = (routes: readonly Route[]): RouteIndex | undefined =>
  routes.length < indexedRoutesMin ? undefined : new RouteIndex(routes);
