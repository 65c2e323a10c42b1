// Envoy's response flags: the short form is what the proxy keeps, the long form what %RESPONSE_FLAGS_LONG% writes.

const long: Readonly<Record<string, string>> = {
  LH: "FailedLocalHealthCheck",
  UH: "NoHealthyUpstream",
  UT: "UpstreamRequestTimeout",
  LR: "LocalReset",
  UR: "UpstreamRemoteReset",
  UF: "UpstreamConnectionFailure",
  UC: "UpstreamConnectionTermination",
  UO: "UpstreamOverflow",
  NR: "NoRouteFound",
  DI: "DelayInjected",
  FI: "FaultInjected",
  RL: "RateLimited",
  UAEX: "UnauthorizedExternalService",
  RLSE: "RateLimitServiceError",
  DC: "DownstreamConnectionTermination",
  URX: "UpstreamRetryLimitExceeded",
  SI: "StreamIdleTimeout",
  IH: "InvalidEnvoyRequestHeaders",
  DPE: "DownstreamProtocolError",
  UMSDR: "UpstreamMaxStreamDurationReached",
  RFCF: "ResponseFromCacheFilter",
  NFCF: "NoFilterConfigFound",
  DT: "DurationTimeout",
  UPE: "UpstreamProtocolError",
  NC: "NoClusterFound",
  OM: "OverloadManagerTerminated",
  DF: "DnsResolutionFailed",
  DO: "DropOverload",
  DR: "DownstreamRemoteReset",
};

/** "UF,URX" → "UpstreamConnectionFailure,UpstreamRetryLimitExceeded"; "-" → "". */
export const longFlags = (flags: string): string =>
  flags === "-"
    ? ""
    : flags
        .split(",")
        .map((flag) => long[flag] ?? flag)
        .join(",");

/** Two texts of flags as one, in Envoy's order; neither is "-" or empty. */
export function joinFlags(a: string, b: string): string {
  const flags = new Set([...a.split(","), ...b.split(",")]);
  return Object.keys(long)
    .filter((flag) => flags.has(flag))
    .join(",");
}

export const isResponseFlag = (flag: string): boolean => Object.hasOwn(long, flag);
