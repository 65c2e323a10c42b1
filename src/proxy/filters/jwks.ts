// Where a JWT provider's keys come from: inline, or fetched through a cluster, kept for a while and fetched once for all who wait.

import type { JwtProvider, RemoteJwks } from "#gen/xds/envoy/extensions/filters/http/jwt_authn/v3/config_pb.js";
import { MeshbedError, messageOf } from "../../kernel/errors.ts";
import { unknownWorkload } from "../clusters/cluster.ts";
import { requestCluster } from "../clusters/request.ts";
import { durationMs } from "../compile/any.ts";
import { dataText } from "../compile/data_source.ts";
import type { FilterDeps } from "../filter.ts";
import { type KeySet, parseKeySet } from "./jwt_keys.ts";

/** Envoy's defaults. */
const cacheMs = 600_000;
const failedRefetchMs = 1_000;
const retryBaseMs = 1_000;
/** Envoy waits for the keys' end; whoever rotates keys is not made to wait for that here. */
const missedRefetchMs = 1_000;
/** An asynchronous fetch comes this long before the keys it replaces expire. */
const refetchEarlyMs = 5_000;
const bodyBytesMax = 1024 * 1024;

/** The keys, or why there are none. */
/** `missed`: keys in which a token's own was not found; newer ones may have it. */
export type KeySource = (missed?: KeySet) => KeySet | string | Promise<KeySet | string>;

export function compileKeySource(name: string, provider: JwtProvider, deps: FilterDeps): KeySource {
  const { jwksSourceSpecifier: source } = provider;
  if (source.case === "localJwks") {
    const keys = parseKeySet(dataText(source.value, `JWT provider ${name}`));
    // As Envoy: a provider whose keys cannot be read refuses every token.
    if (typeof keys === "string") deps.runtime.log.warn("unusable JWKS", { provider: name, reason: keys });
    return () => keys;
  }
  if (source.case === "remoteJwks") {
    const remote = new RemoteKeys(name, source.value, deps);
    return (missed) => remote.keys(missed);
  }
  throw new MeshbedError("JWT_INVALID", `JWT provider ${name} has neither local_jwks nor remote_jwks`);
}

class RemoteKeys {
  readonly #name: string;
  readonly #config: RemoteJwks;
  readonly #deps: FilterDeps;
  readonly #url: URL;
  #current: KeySet | undefined;
  #expiresMs = 0;
  #fetchedMs = 0;
  #fetching: Promise<KeySet | string> | undefined;

  constructor(name: string, config: RemoteJwks, deps: FilterDeps) {
    this.#name = name;
    this.#config = config;
    this.#deps = deps;
    const { httpUri } = config;
    if (httpUri?.httpUpstreamType.case !== "cluster" || !URL.canParse(httpUri.uri))
      throw new MeshbedError("JWT_INVALID", `JWT provider ${name}: remote_jwks needs http_uri with uri and cluster`);
    this.#url = new URL(httpUri.uri);
    if (config.asyncFetch) this.#prefetch(0);
  }

  keys(missed?: KeySet): KeySet | string | Promise<KeySet | string> {
    const { clock } = this.#deps;
    // Tokens of unknown keys must not make more fetches than this.
    if (missed !== undefined && this.#current === missed)
      return clock.monotonicMs() - this.#fetchedMs < missedRefetchMs ? missed : this.#fetch();
    if (this.#current !== undefined && this.#deps.clock.monotonicMs() < this.#expiresMs) return this.#current;
    return this.#fetch();
  }

  /** One fetch at a time; whoever needs keys meanwhile waits for it. */
  #fetch(): Promise<KeySet | string> {
    this.#fetching ??= this.#get().finally(() => {
      this.#fetching = undefined;
    });
    return this.#fetching;
  }

  async #get(): Promise<KeySet | string> {
    const { clock, random, runtime } = this.#deps;
    const { retryPolicy: retry, cacheDuration } = this.#config;
    const tries = 1 + (retry ? (retry.numRetries ?? 1) : 0);
    const baseMs = durationMs(retry?.retryBackOff?.baseInterval, retryBaseMs);
    for (let attempt = 1; ; attempt++)
      try {
        const keys = parseKeySet(await this.#download());
        if (typeof keys !== "string") {
          this.#current = keys;
          this.#fetchedMs = clock.monotonicMs();
          this.#expiresMs = clock.monotonicMs() + durationMs(cacheDuration, cacheMs);
        }
        return keys;
      } catch (error) {
        runtime.log.warn("JWKS fetch failed", { provider: this.#name, attempt, reason: messageOf(error) });
        if (attempt >= tries) return "Jwks remote fetch is failed";
        await clock.sleep(random.next() * baseMs * 2 ** (attempt - 1));
      }
  }

  async #download(): Promise<string> {
    const { httpUri } = this.#config;
    const { pathname, search, host } = this.#url;
    const slot = this.#deps.cluster(httpUri!.httpUpstreamType.value!);
    const { status, body } = await requestCluster(
      slot,
      {
        method: "GET",
        authority: host,
        path: pathname + search,
        headers: "accept: application/json\r\n",
        body: undefined,
        timeoutMs: durationMs(httpUri!.timeout, failedRefetchMs),
        bodyBytesMax,
      },
      unknownWorkload,
      this.#deps.runtime,
    );
    if (status !== 200) throw new MeshbedError("JWKS_FETCH_FAILED", `${this.#url.href} answered ${status}`);
    return body.toString();
  }

  /** async_fetch: the keys are there before the first request, and new ones before the old expire. */
  #prefetch(delayMs: number): void {
    const { clock, runtime } = this.#deps;
    // A configuration that was replaced is held by nobody else: its timer must not keep it alive.
    const self = new WeakRef(this);
    clock.after(delayMs, () => {
      const alive = self.deref();
      if (alive && !runtime.draining) void alive.#fetchAgain();
    });
  }
  async #fetchAgain(): Promise<void> {
    const { asyncFetch, cacheDuration } = this.#config;
    const failed = typeof (await this.#fetch()) === "string";
    this.#prefetch(
      failed
        ? durationMs(asyncFetch?.failedRefetchDuration, failedRefetchMs)
        : Math.max(failedRefetchMs, durationMs(cacheDuration, cacheMs) - refetchEarlyMs),
    );
  }
}
