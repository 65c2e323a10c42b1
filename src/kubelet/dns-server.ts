// The node's DNS server on UDP and TCP: cluster names from the zone, everything else from the machine's resolvers.

import type { Clock } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import type { Random } from "../kernel/random.ts";
import {
  type Answer,
  encodeAnswer,
  encodeFailure,
  encodeQuery,
  parseAnswer,
  parseQuery,
  type Question,
  type ResourceRecord,
  rcodes,
  typeNumbers,
} from "./dns-codec.ts";
import { createForwarder } from "./dns-forward.ts";
import { answerFromZone, type ZoneData } from "./dns-zone.ts";

export interface DnsServerOptions {
  address: string;
  /** 0: any free one. */
  port: number;
  upstreams: readonly string[];
  /** Of the upstreams; for tests. */
  upstreamPort?: number;
  zone: string;
  data: ZoneData;
  /** Addresses of a name that the zone does not have, for whoever asks; undefined: the upstreams may know. */
  outside?: (name: string, from: string) => readonly string[] | undefined;
  clock: Clock;
  random: Random;
  log: Log;
}

export interface DnsServer {
  readonly port: number;
  close(): void;
}

const classIn = 1;
const tcpConnectionsMax = 64;
const tcpIdleMs = 10_000;
const anyPortTries = 10;
const tcpAnswerBytesMax = 65_535;
/** An alias of an alias of an alias: further ones are left to the client. */
const aliasesMax = 8;

interface TcpState {
  buffered: Buffer;
  cancelIdle: () => void;
}

/** Throws when the address or port cannot be bound. */
export async function startDnsServer(options: DnsServerOptions): Promise<DnsServer> {
  const { address, clock, log } = options;
  const forwarder = createForwarder(options.upstreams, {
    clock,
    random: options.random,
    ...(options.upstreamPort === undefined ? {} : { port: options.upstreamPort }),
  });
  const answer = (message: Uint8Array, from: string, overTcp: boolean) =>
    answerMessage(options, { ask: forwarder.ask, from }, message, overTcp);
  const bind = async () => {
    const udp = await Bun.udpSocket({
      hostname: address,
      port: options.port,
      binaryType: "buffer",
      socket: {
        data: (socket, message, fromPort, from) => {
          void answer(message, from, false).then((reply) => {
            if (reply !== undefined && !socket.closed) socket.send(reply, fromPort, from);
          });
        },
        error: (_socket, error) => log.debug("dns", { error: messageOf(error) }),
      },
    });
    try {
      return { udp, tcp: startTcp(address, udp.port, (message, from) => answer(message, from, true), clock) };
    } catch (error) {
      udp.close();
      throw error;
    }
  };
  // A port that is free for UDP may be taken for TCP; where any will do, the next is tried.
  let tries = options.port === 0 ? anyPortTries : 1;
  let bound: Awaited<ReturnType<typeof bind>> | undefined;
  while (bound === undefined)
    bound = await bind().catch((error) => {
      if (--tries === 0) throw error;
      return undefined;
    });
  const { udp, tcp } = bound;
  return {
    port: udp.port,
    close() {
      udp.close();
      tcp.stop(true);
      forwarder.close();
    },
  };
}

function startTcp(
  hostname: string,
  port: number,
  answer: (message: Uint8Array, from: string) => Promise<Uint8Array | undefined>,
  clock: Clock,
): Bun.TCPSocketListener<TcpState> {
  let connections = 0;
  return Bun.listen<TcpState>({
    hostname,
    port,
    socket: {
      open(socket) {
        connections++;
        socket.data = { buffered: Buffer.alloc(0), cancelIdle: clock.after(tcpIdleMs, () => socket.end()) };
        if (connections > tcpConnectionsMax) socket.terminate();
      },
      data(socket, chunk) {
        const { data } = socket;
        data.buffered = Buffer.concat([data.buffered, chunk]);
        data.cancelIdle();
        data.cancelIdle = clock.after(tcpIdleMs, () => socket.end());
        while (data.buffered.length >= 2) {
          const length = data.buffered.readUInt16BE(0);
          if (data.buffered.length < length + 2) break;
          const message = Uint8Array.from(data.buffered.subarray(2, length + 2));
          data.buffered = data.buffered.subarray(length + 2);
          void answer(message, socket.remoteAddress).then((reply) => {
            if (reply === undefined) return;
            const framed = Buffer.alloc(reply.length + 2);
            framed.writeUInt16BE(reply.length, 0);
            framed.set(reply, 2);
            socket.write(framed);
          });
        }
      },
      close(socket) {
        connections--;
        socket.data.cancelIdle();
      },
      error() {},
    },
  });
}

/** The upstreams, and who asks. */
interface Asking {
  ask(query: Uint8Array): Promise<Uint8Array | undefined>;
  from: string;
}

/** Short, as a ServiceEntry may go. */
const outsideTtlSeconds = 5;

/** From the zone, else from what is known of the outside. */
function answerHere(
  { data, zone, outside }: DnsServerOptions,
  from: string,
  name: string,
  type: number,
): Answer | undefined {
  const own = answerFromZone(data, zone, name, type);
  if (own !== undefined && own.rcode !== rcodes.nameError) return own;
  const addresses = outside?.(name, from);
  if (addresses === undefined) return own;
  const asked = type === typeNumbers.A || type === typeNumbers.ANY ? addresses : [];
  const answers = asked.map((address): ResourceRecord => ({ type: "A", address, name, ttlSeconds: outsideTtlSeconds }));
  return { rcode: rcodes.ok, authoritative: false, answers, authority: [], additional: [] };
}

async function answerMessage(
  options: DnsServerOptions,
  asking: Asking,
  message: Uint8Array,
  overTcp: boolean,
): Promise<Uint8Array | undefined> {
  const parsed = parseQuery(message);
  if (parsed.kind === "ignored") return undefined;
  if (parsed.kind === "malformed") return encodeFailure(parsed.id, parsed.rcode);
  const { question } = parsed;
  const sizeBytesMax = overTcp ? tcpAnswerBytesMax : question.sizeBytesMax;
  try {
    if (question.class !== classIn) return encodeAnswer(question, failure(rcodes.refused), sizeBytesMax);
    const own = answerHere(options, asking.from, question.name, question.type);
    if (own !== undefined) {
      const complete = await followAliases(options, asking, question, own);
      return encodeAnswer(question, shuffled(complete, options.random), sizeBytesMax);
    }
    const forwarded = await asking.ask(message);
    return forwarded ?? encodeAnswer(question, failure(rcodes.serverFailure), sizeBytesMax);
  } catch (error) {
    options.log.warn("dns answer failed", { name: question.name, error: messageOf(error) });
    return encodeAnswer(question, failure(rcodes.serverFailure), sizeBytesMax);
  }
}

const failure = (rcode: number): Answer => ({
  rcode,
  authoritative: false,
  answers: [],
  authority: [],
  additional: [],
});

/** Stub resolvers do not follow an alias themselves: what it leads to belongs into the same answer. */
async function followAliases(
  options: DnsServerOptions,
  { ask, from }: Asking,
  question: Question,
  first: Answer,
): Promise<Answer> {
  const last = first.answers.at(-1);
  if (last?.type !== "CNAME" || question.type === typeNumbers.CNAME || question.type === typeNumbers.ANY) return first;
  const answers: ResourceRecord[] = [...first.answers];
  let target = last.target;
  for (let i = 0; i < aliasesMax; i++) {
    const own = answerHere(options, from, target, question.type);
    if (own === undefined) {
      const reply = await ask(encodeQuery(0, target, question.type));
      const outside = reply === undefined ? undefined : parseAnswer(reply);
      if (outside === undefined) return { ...first, rcode: rcodes.serverFailure, answers: [] };
      return { ...first, rcode: outside.rcode, answers: [...answers, ...outside.records] };
    }
    answers.push(...own.answers);
    const next = own.answers.at(-1);
    if (next?.type !== "CNAME") return { ...own, answers };
    target = next.target;
  }
  return { ...first, rcode: rcodes.serverFailure, answers: [] };
}

/** Clients take the first address: the order has to differ for load to spread over a headless service. */
function shuffled(answer: Answer, random: Random): Answer {
  if (answer.answers.length < 2 || answer.answers.some((record) => record.type === "CNAME")) return answer;
  const answers = [...answer.answers];
  for (let i = answers.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [answers[i], answers[j]] = [answers[j]!, answers[i]!];
  }
  return { ...answer, answers };
}
