// DownstreamTlsContext → what a server connection needs: versions, suites, the certificate by server name, client certificates.

import type { TransportSocket } from "#gen/xds/envoy/config/core/v3/base_pb.js";
import { DownstreamTlsContextSchema } from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { MeshbedError } from "../../kernel/errors.ts";
import { alpnName } from "../../wire/http2_frames.ts";
import { unpack } from "../compile/any.ts";
import { compileTlsParams, wireAlpn } from "./params.ts";
import {
  buildContext,
  type ContextSettings,
  type KeyPair,
  type KeyPairSource,
  keyPairSources,
  type SecretStore,
  secretNamesOf,
  validationSource,
} from "./secrets.ts";
import type { Validation } from "./validation.ts";

export interface ServerTls {
  /** A node:tls SecureContext's native part; undefined while a secret has not arrived: the connection is refused. */
  context(serverName: string): object | undefined;
  requestCert: boolean;
  /** A client without a certificate is refused. */
  requireCert: boolean;
  /** How a presented certificate is judged; undefined (with `requestCert`): its secret has not arrived. */
  validation(): Validation | undefined;
  requireServerName: boolean;
  /** In the wire format ALPN uses; empty: none offered. */
  alpn: Buffer;
  secretNames: readonly string[];
}

export function compileServerTls(socket: TransportSocket, at: string, secrets: SecretStore): ServerTls {
  const config = socket.configType;
  const message = config.case === "typedConfig" ? unpack(config.value, DownstreamTlsContextSchema) : undefined;
  if (!message) throw new MeshbedError("TLS_UNSUPPORTED", `${at}: transport socket ${socket.name} is not supported`);
  const common = message.commonTlsContext;
  const sources = keyPairSources(common, at);
  if (sources.length === 0) throw new MeshbedError("TLS_INVALID", `${at}: no certificate`);
  const roots = validationSource(common, at);
  const requireCert = message.requireClientCertificate === true;
  const requestCert = requireCert || roots !== undefined;
  const validation = roots ? secrets.validation(roots) : () => undefined;
  const { sessionTicketKeysType: resumption } = message;
  if (resumption.case === "sessionTicketKeys" || resumption.case === "sessionTicketKeysSdsSecretConfig")
    throw new MeshbedError("TLS_UNSUPPORTED", `${at}: session_ticket_keys is not supported`);
  const settings: ContextSettings = {
    ...compileTlsParams(common?.tlsParams, at),
    requestCert,
    rejectUnauthorized: requireCert,
    // A ticket is good for the context that gave it: none outlives a change of certificates or roots.
    tickets: !(resumption.case === "disableStatelessSessionResumption" && resumption.value),
  };
  return {
    context: contextChooser(sources, roots && validation, settings, secrets),
    requestCert,
    requireCert,
    validation,
    requireServerName: message.requireSni === true,
    alpn: alpnOf(common?.alpnProtocols ?? []),
    secretNames: secretNamesOf(sources, roots),
  };
}

/** Only what the codecs speak. */
const alpnOf = (protocols: readonly string[]): Buffer =>
  wireAlpn(protocols.filter((protocol) => protocol.startsWith("http/1") || protocol === alpnName));

/** Certificates for the same names, one per key type. */
interface Group {
  context: object;
  pairs: readonly KeyPair[];
  validation: Validation | undefined;
}

/** By server name: exact, then wildcard, then the first certificate. What a change of secrets leaves alone keeps its context, and with it its tickets. */
function contextChooser(
  sources: readonly KeyPairSource[],
  validationOf: (() => Validation | undefined) | undefined,
  settings: ContextSettings,
  secrets: SecretStore,
): ServerTls["context"] {
  let version = -1;
  let groups: readonly Group[] = [];
  let byName: ReadonlyMap<string, Group> = new Map();
  const refresh = (): void => {
    version = secrets.version;
    const pairs = sources.map((source) => secrets.pair(source));
    const validation = validationOf?.();
    const isMissing = pairs.includes(undefined) || (validationOf !== undefined && validation === undefined);
    const before = groups;
    groups = (isMissing ? [] : groupPairs(pairs as KeyPair[])).map((group) => {
      const same = (one: Group) => one.validation === validation && group.every((pair, i) => pair === one.pairs[i]);
      const kept = before.find((one) => one.pairs.length === group.length && same(one));
      if (kept) return kept;
      return { context: buildContext(group, validation, settings), pairs: group, validation };
    });
    const named = groups.flatMap((group) => group.pairs[0]!.names.map((name) => [name, group] as const));
    // The first certificate for a name wins.
    byName = new Map(named.reverse());
  };
  return (serverName) => {
    if (version !== secrets.version) refresh();
    return (groups.length <= 1 ? groups[0] : (certificateFor(serverName, byName) ?? groups[0]))?.context;
  };
}

/** Pairs for the same names stand together: the TLS library picks by what the client can do. */
export function groupPairs(pairs: readonly KeyPair[]): KeyPair[][] {
  const groups = new Map<string, KeyPair[]>();
  for (const pair of pairs) {
    const key = [...pair.names].sort().join(" ");
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [pair]);
    else if (!group.some(({ keyType }) => keyType === pair.keyType)) group.push(pair);
  }
  return [...groups.values()];
}

export function certificateFor<T>(serverName: string, byName: ReadonlyMap<string, T>): T | undefined {
  const dot = serverName.indexOf(".");
  return byName.get(serverName) ?? (dot > 0 ? byName.get(`*${serverName.slice(dot)}`) : undefined);
}
