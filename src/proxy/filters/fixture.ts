// For tests of filters: a backend that says what it got, and a proxy in front of it with the filters under test.

import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import {
  type Configuration,
  cluster,
  type FixtureProxy,
  freePort,
  httpChain,
  listener,
  pack,
  routes,
  startFixture,
} from "../fixture.ts";
import type { ProxyOptions } from "../types.ts";

export interface Backend {
  address: string;
  requests: Request[];
  /** Replaces the usual answer. */
  answer: ((request: Request) => Response | Promise<Response>) | undefined;
  stop(): void;
}

/** What the backend says it got. */
export interface Seen {
  method: string;
  path: string;
  headers: Record<string, string>;
  body: string;
}

export function startBackend(): Backend {
  const backend: Backend = { address: "", requests: [], answer: undefined, stop: () => void server.stop(true) };
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      backend.requests.push(request);
      if (backend.answer) return backend.answer(request);
      const { pathname, search } = new URL(request.url, "http://none");
      const seen: Seen = {
        method: request.method,
        path: pathname + search,
        headers: Object.fromEntries(request.headers),
        body: await request.text(),
      };
      return Response.json(seen);
    },
  });
  backend.address = `127.0.0.1:${server.port}`;
  return backend;
}

type Manager = NonNullable<Parameters<typeof httpChain>[1]>;
type RouteList = Parameters<typeof routes>[1];

export const httpFilter = <S extends DescMessage>(name: string, schema: S, init: MessageInitShape<S>) =>
  ({ name, configType: { case: "typedConfig", value: pack(schema, init) } }) as const;

export class FilterFixture {
  readonly port: number = freePort();
  readonly base: string = `http://127.0.0.1:${this.port}`;
  readonly backend: Backend = startBackend();
  #proxy!: FixtureProxy;

  async start(more: Partial<ProxyOptions> = {}): Promise<void> {
    this.#proxy = await startFixture({}, more);
  }
  /** One listener with these filters and routes (or `more.routes`); the backend is cluster "a". */
  async serve(manager: Manager, list: RouteList, more: Configuration = {}): Promise<void> {
    await this.#proxy.configure({
      ...more,
      listeners: [listener("127.0.0.1", this.port, [httpChain("main", manager)]), ...(more.listeners ?? [])],
      clusters: [cluster("a", [this.backend.address]), ...(more.clusters ?? [])],
      routes: more.routes ?? [routes("main", list)],
    });
    this.backend.requests.length = 0;
    this.backend.answer = undefined;
  }
  metrics(): Promise<string> {
    return this.#proxy.metrics();
  }
  fetch(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(this.base + path, { redirect: "manual", ...init });
  }
  async seen(path: string, init: RequestInit = {}): Promise<Seen> {
    return (await (await this.fetch(path, init)).json()) as Seen;
  }
  async stop(): Promise<void> {
    await this.#proxy.close();
    this.backend.stop();
  }
}
