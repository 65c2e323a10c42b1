// FilterChainMatch: which chain of a listener a connection belongs to. Pure.

import type { CidrRange } from "#gen/xds/envoy/config/core/v3/address_pb.js";
import {
  type FilterChainMatch,
  FilterChainMatch_ConnectionSourceType as SourceType,
} from "#gen/xds/envoy/config/listener/v3/listener_components_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { compileCidr } from "./cidr.ts";

/** How well a chain fits a connection in one respect. Below zero: not at all; 0: it does not ask. */
type Criterion = (connection: Arrival) => number;

/** What is known of a connection before a chain is chosen. */
export interface Arrival {
  localAddress: string;
  localPort: number;
  remoteAddress: string;
  remotePort: number;
  /** Undefined: plain text. */
  hello: { serverName: string; alpn: readonly string[] } | undefined;
}

export interface ChainMatch {
  destinationPort: number | undefined;
  /** Lower case; "*.example.com" for suffixes; empty matches any. */
  serverNames: readonly string[];
  /** "tls", "raw_buffer" or "" for any. */
  transportProtocol: string;
  applicationProtocols: readonly string[];
  /** Tells matches apart; empty when nothing is asked for. */
  text: string;
  /** In Envoy's order. */
  criteria: readonly Criterion[];
}

/**
 * Criterion after criterion, only the chains that fit best go on, as in Envoy: what a less specific chain says
 * in a later respect does not matter any more.
 */
export function chooseMatch<T extends ChainMatch>(chains: readonly T[], arrival: Arrival): T | undefined {
  let left = chains;
  for (let i = 0; i < criteriaCount && left.length > 0; i++) {
    let best = 0;
    let fitting: T[] = [];
    for (const chain of left) {
      const rank = chain.criteria[i]!(arrival);
      if (rank < best) continue;
      if (rank > best) {
        best = rank;
        fitting = [];
      }
      fitting.push(chain);
    }
    left = fitting;
  }
  return left[0];
}

const any: Criterion = () => 0;
const criteriaCount = 9;

export function compileChainMatch(match: FilterChainMatch | undefined, at: string): ChainMatch {
  const serverNames = (match?.serverNames ?? []).map((text) => text.toLowerCase());
  const transportProtocol = match?.transportProtocol ?? "";
  const destinationPort = match?.destinationPort;
  if (match?.addressSuffix) throw new MeshbedError("LISTENER_UNSUPPORTED", `${at}: address_suffix is not supported`);
  const wrong = serverNames.find(
    (name) => name.lastIndexOf("*") > 0 || (name.startsWith("*") && !/^\*($|\.)/.test(name)),
  );
  if (wrong !== undefined)
    throw new MeshbedError("LISTENER_INVALID", `${at}: server name ${wrong}: a star stands for the first labels only`);
  const destinations = (match?.prefixRanges ?? []).map(compileRange);
  const neighbours = (match?.directSourcePrefixRanges ?? []).map(compileRange);
  const sources = (match?.sourcePrefixRanges ?? []).map(compileRange);
  const applicationProtocols = match?.applicationProtocols ?? [];
  const ports = match?.sourcePorts ?? [];
  return {
    destinationPort,
    serverNames,
    transportProtocol,
    applicationProtocols,
    text: match === undefined ? "" : textOf(match),
    criteria: [
      destinationPort === undefined ? any : ({ localPort }) => (localPort === destinationPort ? 1 : -1),
      destinations.length === 0 ? any : ({ localAddress }) => longest(destinations, localAddress),
      serverNames.length === 0 ? any : ({ hello }) => serverNameRank(serverNames, hello?.serverName ?? ""),
      transportProtocol === ""
        ? any
        : ({ hello }) => ((transportProtocol === "tls") === (hello !== undefined) ? 1 : -1),
      applicationProtocols.length === 0 ? any : ({ hello }) => protocolRank(applicationProtocols, hello?.alpn ?? []),
      neighbours.length === 0 ? any : ({ remoteAddress }) => longest(neighbours, remoteAddress),
      sourceTypeOf(match?.sourceType ?? SourceType.ANY),
      // PROXY protocol replaces the remote address, so both are one here.
      sources.length === 0 ? any : ({ remoteAddress }) => longest(sources, remoteAddress),
      ports.length === 0 ? any : ({ remotePort }) => (ports.includes(remotePort) ? 1 : -1),
    ],
  };
}

function textOf(match: FilterChainMatch): string {
  const ranges = (list: readonly CidrRange[]): string =>
    list.map(({ addressPrefix, prefixLen }) => `${addressPrefix}/${prefixLen}`).join(",");
  const parts = [
    match.destinationPort ?? "",
    match.transportProtocol,
    match.serverNames.join(",").toLowerCase(),
    match.applicationProtocols.join(","),
    ranges(match.prefixRanges),
    ranges(match.directSourcePrefixRanges),
    match.sourceType || "",
    ranges(match.sourcePrefixRanges),
    match.sourcePorts.join(","),
  ];
  return parts.join("|").replace(/\|+$/, "");
}

/** An exact name, then the longest suffix. */
function serverNameRank(names: readonly string[], name: string): number {
  let best = -1;
  for (const want of names) {
    if (want === name) return Number.POSITIVE_INFINITY;
    if (want === "*" && best < 0) best = 0;
    else if (want.startsWith("*.") && name.length >= want.length && name.endsWith(want.slice(1)))
      best = Math.max(best, want.length);
  }
  return best;
}

/** The client's first protocol that the chain names. */
function protocolRank(protocols: readonly string[], offered: readonly string[]): number {
  const index = offered.findIndex((protocol) => protocols.includes(protocol));
  return index < 0 ? -1 : offered.length - index;
}

function sourceTypeOf(type: SourceType): Criterion {
  if (type === SourceType.ANY) return any;
  return ({ remoteAddress, localAddress }) => {
    const isLocal = remoteAddress === localAddress || remoteAddress === "::1" || remoteAddress.startsWith("127.");
    return isLocal === (type === SourceType.SAME_IP_OR_LOOPBACK) ? 1 : -1;
  };
}

interface Range {
  /** Prefix length plus 1. */
  rank: number;
  holds: (address: string) => boolean;
}

const compileRange = (range: CidrRange): Range => ({ rank: (range.prefixLen ?? 0) + 1, holds: compileCidr(range) });

/** The longest range around the address. */
function longest(ranges: readonly Range[], address: string): number {
  let best = -1;
  for (const { rank, holds } of ranges) if (rank > best && holds(address)) best = rank;
  return best;
}
