// Plain counts behind Envoy's statistics names: incremented by the data path, read by the admin pages.

/** Of one HTTP connection manager or TCP proxy, by its stat_prefix. */
export interface DownstreamCounts {
  connections: number;
  connectionsClosed: number;
  requests: number;
  /** By the answer's status class: 1 is 1xx; 0 are requests that ended without an answer. */
  readonly ended: Float64Array;
}

/** Of one cluster. A request that is tried again counts each time. */
export interface UpstreamCounts {
  requests: number;
  /** By status class, as in DownstreamCounts. */
  readonly answers: Float64Array;
  connections: number;
  connectFailures: number;
  retries: number;
  timeouts: number;
  overflows: number;
}

const statusClasses = 10;

export const newDownstreamCounts = (): DownstreamCounts => ({
  connections: 0,
  connectionsClosed: 0,
  requests: 0,
  ended: new Float64Array(statusClasses),
});

export const newUpstreamCounts = (): UpstreamCounts => ({
  requests: 0,
  answers: new Float64Array(statusClasses),
  connections: 0,
  connectFailures: 0,
  retries: 0,
  timeouts: 0,
  overflows: 0,
});

/** 0 to 9: upstreams may answer any three digits. */
export const statusClass = (status: number): number => (status / 100) | 0;
