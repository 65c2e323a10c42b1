// How a request gets into the mesh: who sends it, which proxy and listener it meets, as which connection.

import { MeshbedError } from "../kernel/errors.ts";
import { containerPortOf, selects } from "../mesh/translate-listeners.ts";
import type { Model, Workload } from "../mesh/types.ts";
import type { ConnectionInfo } from "../proxy/chain.ts";
import { unknownWorkload } from "../proxy/clusters/cluster.ts";
import type { CompiledChain, CompiledListener } from "../proxy/compile/listener.ts";
import { chooseMatch } from "../proxy/routing/chain_match.ts";
import { findVirtualHost } from "../proxy/routing/route.ts";
import type { Context } from "./context.ts";
import type { DryNode } from "./dry_node.ts";
import type { Caller } from "./inbound.ts";
import type { Ask, Step } from "./types.ts";

/** Where relays dial from, and clients outside the cluster. */
const outsideAddress = "172.20.0.1";
/** Stands for an address outside (RFC 5737). */
const someAddress = "192.0.2.1";

export interface Asked {
  url: URL;
  secure: boolean;
  port: number;
  /** Host field. */
  authority: string;
  /** With its query, as it was written. */
  path: string;
  head: Buffer;
}

export type Entry =
  | {
      kind: "listener";
      steps: Step[];
      dry: DryNode;
      listener: CompiledListener;
      chain: CompiledChain;
      client: ConnectionInfo;
      caller: Caller;
      workload: Workload | undefined;
      from: string;
    }
  /** Straight to an address, no listener in between. */
  | { kind: "direct"; steps: Step[]; address: string; port: number; caller: Caller; from: string }
  | { kind: "refused"; steps: Step[]; reason: string; from: string };

/** The URL and the head as a client sends it. Throws EXPLAIN_URL. */
export function readAsk({ method, url: text, headers }: Ask): Asked {
  const fail = (why: string): never => {
    throw new MeshbedError("EXPLAIN_URL", `${text}: ${why}`, {
      fix: "give a whole URL, as in: meshbed explain GET http://shop.example.com/cart",
    });
  };
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) fail("not a URL: the scheme (http:// or https://) is missing");
  if (!URL.canParse(text)) fail("not a URL");
  const url = new URL(text);
  if (url.protocol !== "http:" && url.protocol !== "https:")
    fail(`scheme ${url.protocol.slice(0, -1)} is not explained; http and https are`);
  if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(method)) fail(`${method} is no method`);
  const host = headers.find(([name]) => name.toLowerCase() === "host")?.[1];
  const own = headers.filter(([name]) => name.toLowerCase() !== "host");
  // As it was written: the URL parser would resolve dots and escape characters, which proxies judge for themselves.
  const [, written = "", path = ""] = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)([^#]*)/i.exec(text) ?? [];
  const authority = host ?? written.slice(written.lastIndexOf("@") + 1);
  const target = path.startsWith("/") ? path : `/${path}`;
  const lines = [
    `${method} ${target} HTTP/1.1`,
    `host: ${authority}`,
    ...own.map(([name, value]) => `${name}: ${value}`),
  ];
  const secure = url.protocol === "https:";
  const port = Number(url.port) || (secure ? 443 : 80);
  return { url, secure, port, authority, path: target, head: Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1") };
}

/** Throws EXPLAIN_CALLER when `from` names nobody. */
export async function enter(context: Context, ask: Ask, asked: Asked): Promise<Entry> {
  const { model } = context;
  const from = ask.from?.trim() || "outside";
  if (from === "outside" || from === "gateway") return enterGateway(context, asked, gatewaysOf(model), outsideAddress);
  if (/^\d+\.\d+\.\d+\.\d+$/.test(from) && !model.workloads.some(({ ip }) => ip === from))
    return enterGateway(context, asked, gatewaysOf(model), from);
  const workload = findWorkload(model, from);
  if (workload.gateway) return enterGateway(context, asked, [workload], outsideAddress);
  return workload.injected ? enterSidecar(context, asked, workload) : enterPlain(context, asked, workload);
}

/** One pod of each gateway. */
function gatewaysOf(model: Model): Workload[] {
  const seen = new Set<string>();
  return model.workloads.filter(
    ({ gateway, about, nodeId }) => gateway && nodeId !== "" && !seen.has(about) && seen.add(about),
  );
}

/** By "namespace/pod", pod, address, or the name of what owns pods. */
export function findWorkload(model: Model, text: string): Workload {
  const { workloads } = model;
  const isOf = ({ about, namespace }: Workload): boolean => {
    const [owner] = about.split(";");
    return owner === text || `${namespace}/${owner}` === text;
  };
  const found =
    workloads.find(({ key }) => key === text) ??
    workloads.find(({ name, ip }) => name === text || ip === text) ??
    workloads.find(isOf);
  if (found) return found;
  const names = workloads.map(({ key }) => key).sort((a, b) => distance(a, text) - distance(b, text));
  throw new MeshbedError("EXPLAIN_CALLER", `no pod "${text}"`, {
    fix: names.length === 0 ? "there are no pods" : `the nearest names: ${names.slice(0, 5).join(", ")}; or "outside"`,
  });
}

/** Levenshtein's, to the name with or without its namespace. */
function distance(key: string, text: string): number {
  const [a, b] = [text.includes("/") ? key : key.slice(key.indexOf("/") + 1), text];
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + Number(a[i - 1] !== b[j - 1]));
    row = next;
  }
  return row[b.length]!;
}

async function enterGateway(
  context: Context,
  asked: Asked,
  gateways: readonly Workload[],
  address: string,
): Promise<Entry> {
  const { world } = context;
  const { hostname } = asked.url;
  const isHere = hostname === "localhost" || hostname === "127.0.0.1";
  const relayed = world.relayedPorts.get(asked.port);
  const from = address === outsideAddress ? "outside" : `outside (${address})`;
  const closed = (reason: string, steps: Step[] = []): Entry => ({ kind: "refused", steps, reason, from });
  if (gateways.length === 0) return closed("there is no gateway: name the pod that sends with --from");
  let first: Entry | undefined;
  for (const gateway of gateways) {
    const ports = [
      ...(relayed !== undefined && isHere ? [relayed] : []),
      asked.port,
      ...(relayed === undefined ? [] : [relayed]),
    ];
    const entry = await gatewayEntry(context, asked, gateway, ports, address, from);
    if (entry.kind !== "listener") {
      first ??= entry;
      continue;
    }
    // Of several gateways the one that knows the host.
    const { current } = entry.chain.slot;
    const host = asked.authority.toLowerCase().replace(/:\d*$/, "");
    const knows = current?.kind === "http" && current.routes.current && findVirtualHost(current.routes.current, host);
    if (knows) return entry;
    if (first?.kind !== "listener") first = entry;
  }
  return first ?? closed("no gateway listens");
}

async function gatewayEntry(
  context: Context,
  asked: Asked,
  gateway: Workload,
  ports: readonly number[],
  address: string,
  from: string,
): Promise<Entry> {
  const dry = await context.node(gateway);
  const listeners = [...dry.node.listeners.values()].filter(({ direction }) => direction === "outbound");
  const label = "gateway";
  const name = `${gateway.namespace}/${gateway.name}`;
  let listener: CompiledListener | undefined;
  let port = asked.port;
  for (const candidate of ports) {
    port = candidate;
    const inner = innerPort(context.model, gateway, candidate);
    listener = listeners.find((each) => each.port === (gateway.ports[inner] ?? inner));
    if (listener) break;
  }
  const steps: Step[] = [];
  if (listener === undefined) {
    const known = listeners.map((each) => each.port).join(", ");
    const text = `${name} does not listen on port ${asked.port}${known === "" ? "" : ` (it does on ${known})`}`;
    return {
      kind: "refused",
      steps: [{ label, text, mark: "no" }],
      reason: `no gateway listens on port ${asked.port}`,
      from,
    };
  }
  const relay = port === asked.port ? "" : `, which port ${asked.port} of this machine leads to`;
  steps.push({
    label,
    text: `${name}, port ${port}${relay}, listener ${listener.name}`,
    mark: "yes",
    ...(dry.refusals.length > 0 && {
      steps: dry.refusals.map((text) => ({ label: "refused", text, mark: "warning" as const })),
    }),
  });
  const client: ConnectionInfo = {
    remoteAddress: address,
    remotePort: 1,
    localAddress: gateway.ip,
    localPort: listener.port,
    secure: false,
    serverName: asked.secure ? asked.url.hostname : "",
    peer: { identity: unknownWorkload, authenticated: false },
  };
  const caller: Caller = { identity: dry.node.owner.identity, address: gateway.ip };
  return throughTls({ kind: "listener", steps, dry, listener, client, caller, workload: gateway, from }, asked);
}

/** A Service's port is the container port behind it. */
function innerPort(model: Model, gateway: Workload, port: number): number {
  for (const { namespace, service, ports } of model.services) {
    if (namespace !== gateway.namespace || !selects(service.spec?.selector, gateway.labels)) continue;
    const target = ports.find((each) => each.port === port)?.targetPort;
    const inner = target === undefined ? undefined : containerPortOf(gateway, target);
    if (inner !== undefined) return inner;
  }
  return port;
}

/** Chooses the chain as the proxy does, by what the first bytes show. */
function throughTls(entry: Omit<Entry & { kind: "listener" }, "chain">, asked: Asked): Entry {
  const { listener, client, steps, from } = entry;
  const hello = asked.secure ? { serverName: client.serverName, alpn: ["http/1.1"] } : undefined;
  const chain = chooseMatch(listener.chains, { ...client, hello }) ?? listener.fallback;
  const refused = (text: string): Entry => ({
    kind: "refused",
    steps: [...steps, { label: "TLS", text, mark: "no" }],
    reason: text,
    from,
  });
  if (chain === undefined) {
    const names = listener.chains.flatMap(({ serverNames }) => serverNames).join(", ");
    return refused(
      asked.secure
        ? `no server for SNI ${client.serverName}; there are ${names || "none"}`
        : "no chain of the listener takes this connection",
    );
  }
  if (chain.tls && hello === undefined) return refused("the listener expects TLS, and the URL says http");
  if (!chain.tls && hello && chain.slot.current?.kind === "http")
    return refused("the listener expects plain HTTP, and the URL says https");
  if (chain.tls && hello) {
    const { requireCert, secretNames } = chain.tls;
    const secret = secretNames.find((name) => name.startsWith("kubernetes://"))?.slice("kubernetes://".length);
    const lacks = chain.tls.context(client.serverName) === undefined && secret !== undefined;
    steps.push({
      label: "TLS",
      text: [
        `SNI ${client.serverName}`,
        secret === undefined ? "" : `certificate of Secret ${secret}${lacks ? " (not among these objects)" : ""}`,
        requireCert ? "asks for a client certificate" : "",
      ]
        .filter(Boolean)
        .join(", "),
      mark: lacks ? "warning" : "yes",
    });
    return { ...entry, chain, client: { ...client, secure: true } };
  }
  if (hello) steps.push({ label: "TLS", text: `SNI ${client.serverName}, passed through as it is`, mark: "yes" });
  return { ...entry, chain };
}

async function enterSidecar(context: Context, asked: Asked, workload: Workload): Promise<Entry> {
  const dry = await context.node(workload);
  const steps: Step[] = [
    {
      label: "caller",
      text: `${workload.namespace}/${workload.name}, with sidecar, as ${workload.identity}`,
      mark: "yes",
    },
  ];
  const identity = dry.node.owner.identity;
  return outbound(context, asked, workload, dry, { identity, address: workload.ip }, steps);
}

async function enterPlain(context: Context, asked: Asked, workload: Workload): Promise<Entry> {
  const node = context.model.nodes[0];
  const name = workload.nodeName || node?.metadata.name || "node";
  const dry = await context.ownNode(name, "172.20.0.10");
  const steps: Step[] = [
    {
      label: "caller",
      text: `${workload.namespace}/${workload.name}, without sidecar: plain TCP, no routes`,
      mark: "warning",
    },
  ];
  return outbound(context, asked, workload, dry, { identity: unknownWorkload, address: workload.ip }, steps);
}

function outbound(
  context: Context,
  asked: Asked,
  workload: Workload,
  dry: DryNode,
  caller: Caller,
  steps: Step[],
): Entry {
  const { hostname } = asked.url;
  const { port } = asked;
  const from = `${workload.namespace}/${workload.name}`;
  const { address, text, isKnown } = resolveName(context.model, hostname, workload.namespace);
  steps.push({ label: "name", text: `${hostname}: ${text}`, ...(!isKnown && { mark: "no" as const }) });
  if (!isKnown) return { kind: "refused", steps, reason: `the name ${hostname} is not known in the cluster`, from };
  const listener = dry.node.outboundListener(address, port);
  if (listener === undefined) {
    const isService = context.model.services.some(({ addresses }) => addresses.includes(address));
    if (isService)
      return { kind: "refused", steps, reason: `the service has no port ${port}: connection refused`, from };
    steps.push({ label: "listener", text: `none for ${address}:${port}: passed through` });
    return { kind: "direct", steps, address, port, caller, from };
  }
  steps.push({ label: "listener", text: listener.name, mark: "yes" });
  const client: ConnectionInfo = {
    remoteAddress: workload.ip,
    remotePort: 1,
    localAddress: address,
    localPort: port,
    secure: false,
    serverName: asked.secure ? hostname : "",
    peer: { identity: unknownWorkload, authenticated: false },
  };
  return throughTls({ kind: "listener", steps, dry, listener, client, caller, workload, from }, asked);
}

/** As a pod's resolver finds names: its search list, then the name itself. */
export function resolveName(
  model: Model,
  name: string,
  namespace: string,
): { address: string; text: string; isKnown: boolean } {
  if (/^\d+\.\d+\.\d+\.\d+$/.test(name)) return { address: name, text: "an address", isKnown: true };
  const domain = model.config.clusterDomain;
  const candidates = [`${name}.${namespace}.svc.${domain}`, `${name}.svc.${domain}`, `${name}.${domain}`, name];
  for (const host of candidates) {
    const service = model.serviceByHost.get(host);
    if (service === undefined) continue;
    if (service.addresses[0] !== undefined)
      return { address: service.addresses[0], text: `service ${host}`, isKnown: true };
    const pod = service.slices.flatMap((slice) => slice.endpoints ?? []).flatMap(({ addresses }) => addresses)[0];
    if (pod !== undefined) return { address: pod, text: `headless service ${host}, one of its pods`, isKnown: true };
    return { address: someAddress, text: `service ${host}, without an address`, isKnown: true };
  }
  const isInside = !name.includes(".") || name.endsWith(`.${domain}`) || name.endsWith(".svc");
  return isInside
    ? { address: someAddress, text: "no service has this name", isKnown: false }
    : { address: someAddress, text: "a name outside the cluster", isKnown: true };
}
