// Differential fuzzing against llhttp, the parser of Node: whatever we pass on, Node reads as the very messages that we read.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { realClock } from "../kernel/clock.ts";
import { seededRandom } from "../kernel/random.ts";
import { ChunkedScanner, type Framing, requestFraming, responseFraming } from "./http1_body.ts";
import { Head, known, scanRequestHead, scanResponseHead } from "./http1_head.ts";
import { HeadWriter, newEdits, writeFields } from "./http1_write.ts";
import { requestPipeline, responseMutant } from "./mutants.ts";
import { type NodeMessage, type NodePeer, seenIn, startNodePeer } from "./node_peer.ts";

/** A failure names its seed; MESHBED_FUZZ_SEED=n runs that one alone. */
const onlySeed = process.env["MESHBED_FUZZ_SEED"];
/** MESHBED_FUZZ_FROM=n starts there, for runs over other seeds. */
const firstSeed = Number(process.env["MESHBED_FUZZ_FROM"] ?? 0);
const budgetMs = 4_000;
const atOnce = 24;

interface Passed {
  messages: NodeMessage[];
  /** What is sent on. */
  bytes: Buffer;
  /** All of the input was accepted. */
  whole: boolean;
}

const out = new HeadWriter();
const latin1 = (text: string): Buffer => Buffer.from(text, "latin1");
const fieldsOf = (head: Head): string[] => {
  const fields = [];
  for (let i = 0; i < head.count; i++) fields.push(`${head.name(i)}: ${head.value(i)}`);
  return fields;
};
/** End-to-end fields in order: hop-by-hop ones are ours and Node's own business. */
const compared = (fields: readonly string[]): string[] =>
  fields.filter(
    (field) => !/^(connection|keep-alive|te|trailer|upgrade|proxy-connection|transfer-encoding|x-hop):/.test(field),
  );

/** Body at `from`: where it ends, or -1; its payload; and the bytes that go out. */
function readBody(
  input: Buffer,
  from: number,
  framing: Framing,
  length: number,
): { end: number; payload: Buffer; raw: Buffer } {
  if (framing === "none") return { end: from, payload: Buffer.alloc(0), raw: Buffer.alloc(0) };
  if (framing === "close") {
    const all = input.subarray(from);
    return { end: input.length, payload: all, raw: all };
  }
  if (framing === "length") {
    const payload = input.subarray(from, from + length);
    return { end: payload.length < length ? -1 : from + length, payload, raw: payload };
  }
  const collect = (raw: boolean): { end: number; bytes: Buffer } => {
    const scanner = new ChunkedScanner();
    const end = scanner.scan(input, from, input.length, raw);
    const parts = [];
    for (let i = 0; i < scanner.ranges.length; i += 2)
      parts.push(input.subarray(scanner.ranges[i]!, scanner.ranges[i + 1]!));
    return { end: scanner.done ? end : -1, bytes: Buffer.concat(parts) };
  };
  const bare = collect(false);
  return { end: bare.end, payload: bare.bytes, raw: collect(true).bytes };
}

/** What the proxy reads off one client connection and passes on, message by message. */
function passRequests(input: Buffer): Passed {
  const parts: Buffer[] = [];
  const messages: NodeMessage[] = [];
  let at = 0;
  while (at < input.length) {
    const head = new Head();
    const end = scanRequestHead(head, input, at, input.length);
    if (end <= 0 || (head.hostIndex < 0 && head.minor === 1)) break;
    const target = head.target();
    // What the proxy refuses as a target or its authority (request.ts).
    if (!/^(?:\/|\*$|https?:\/\/[\w\-.~!$&'()*+,;=%]*(?::\d*)?(?:[/?]|$))/i.test(target)) break;
    const body = readBody(input, end, requestFraming(head), head.contentLength);
    if (body.end < 0) break;
    out.clear();
    out.text(`${head.method()} ${target} HTTP/1.1\r\n`);
    const edits = newEdits();
    edits.dropIds[known.expect] = 1;
    if (head.hostIndex < 0) edits.added = "host: \r\n";
    writeFields(out, head, edits);
    parts.push(Buffer.from(out.buffer.subarray(0, out.length)), body.raw);
    const fields = fieldsOf(head).filter((field) => !field.startsWith("expect:"));
    if (head.hostIndex < 0) fields.push("host: ");
    messages.push({ start: `${head.method()} ${target}`, fields, body: body.payload.toString("base64") });
    at = body.end;
  }
  return { messages, bytes: Buffer.concat(parts), whole: at === input.length };
}

/** What the proxy reads of a server's answer to GET, and passes on to a keep-alive client. */
function passResponse(input: Buffer): Passed | undefined {
  let at = 0;
  const head = new Head();
  for (;;) {
    at = scanResponseHead(head, input, at, input.length);
    if (at <= 0 || head.status === 101) return undefined;
    if (head.status >= 200) break;
  }
  const framing = responseFraming(head, false);
  const body = readBody(input, at, framing, head.contentLength);
  if (body.end < 0) return undefined;
  out.clear();
  out.text("HTTP/1.1");
  out.copy(input, head.start + 8, head.fieldsStart);
  const edits = newEdits();
  let { raw } = body;
  if (framing === "none") {
    edits.dropIds[known.transferEncoding] = 1;
    if (head.status === 204) edits.dropIds[known.contentLength] = 1;
  } else if (framing === "close") {
    edits.added = "transfer-encoding: chunked\r\n";
    const size = raw.length > 0 ? `${raw.length.toString(16)}\r\n${raw.latin1Slice(0, raw.length)}\r\n` : "";
    raw = latin1(`${size}0\r\n\r\n`);
  }
  writeFields(out, head, edits);
  const fields = fieldsOf(head).filter((field) => !(head.status === 204 && field.startsWith("content-length:")));
  const message = { start: String(head.status), fields, body: body.payload.toString("base64") };
  return {
    messages: [message],
    bytes: Buffer.concat([out.buffer.subarray(0, out.length), raw]),
    whole: body.end === input.length,
  };
}

const node = Bun.which("node");
if (node === null) console.warn("skipped: differential tests need `node` on the PATH");

describe.skipIf(node === null)("against Node's llhttp", () => {
  let peer: NodePeer;
  beforeAll(async () => {
    peer = await startNodePeer(node!);
  });
  afterAll(() => peer.close());

  const sentinel = "GET /the-next-request HTTP/1.1\r\nhost: s\r\nconnection: close\r\n\r\n";

  /** What Node's server reads on a connection with these bytes and one more request after them. */
  async function asNodeReads(bytes: Buffer): Promise<{ messages: NodeMessage[]; refused: boolean }> {
    const { promise, resolve } = Promise.withResolvers<string>();
    let got = "";
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: peer.port,
      socket: {
        data(_socket, part) {
          got += part.latin1Slice(0, part.length);
        },
        close: () => resolve(got),
        error: () => resolve(got),
      },
    });
    const cancel = realClock.after(1_500, () => resolve(`${got} (no end)`));
    socket.write(Buffer.concat([bytes, latin1(sentinel)]));
    const answers = await promise;
    cancel();
    socket.terminate();
    return {
      messages: seenIn(answers),
      refused: !answers.startsWith("HTTP/1.1 200") || /HTTP\/1\.1 [^2]/.test(answers),
    };
  }

  /** Runs cases until the time is up. The test would say nothing if hardly any were of use: at least one in eight has to be. */
  async function fuzz(one: (seed: number) => Promise<boolean>): Promise<void> {
    if (onlySeed !== undefined) {
      await one(Number(onlySeed));
      return;
    }
    const deadlineMs = realClock.monotonicMs() + budgetMs / 2;
    let next = firstSeed;
    let useful = 0;
    const worker = async (): Promise<void> => {
      while (realClock.monotonicMs() < deadlineMs) if (await one(next++)) useful++;
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
    expect({ useful, ofTried: next - firstSeed, enough: useful * 8 > next - firstSeed }).toEqual({
      useful,
      ofTried: next - firstSeed,
      enough: true,
    });
  }

  test("what we pass on of a client's requests is the same requests to a server", async () => {
    await fuzz(async (seed) => {
      const input = latin1(requestPipeline(seededRandom(seed)));
      const { messages, bytes, whole } = passRequests(input);
      if (messages.length === 0 || messages.some(({ start }) => !peer.methods.has(start.split(" ", 1)[0]!)))
        return false;
      const theirs = await asNodeReads(bytes);
      const at = `seed ${seed}, ${JSON.stringify(input.latin1Slice(0, input.length))}`;
      const ours = messages.map(({ start, fields, body }) => ({ start, fields: compared(fields), body }));
      const wanted = [...ours, { start: "GET /the-next-request", fields: ["host: s"], body: "" }];
      const read = theirs.messages.map(({ start, fields, body }) => ({ start, fields: compared(fields), body }));
      expect({ at, requests: read }).toEqual({ at, requests: wanted });
      // The very bytes the client sent, where Node accepts them too, are as many requests.
      if (whole) {
        const direct = await asNodeReads(input);
        const closes = messages.some(({ fields }) => fields.some((field) => /^connection:.*close/i.test(field)));
        if (!direct.refused && !closes)
          expect({ at, count: direct.messages.length }).toEqual({ at, count: wanted.length });
      }
      return true;
    });
  }, 20_000);

  test("what we pass on of a server's answer is the same answer to a client", async () => {
    const prepared = new Map<number, Buffer>();
    const server = Bun.listen<{ got: string }>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket) {
          socket.data = { got: "" };
        },
        data(socket, part) {
          const { data } = socket;
          data.got += part.latin1Slice(0, part.length);
          if (!data.got.includes("\r\n\r\n")) return;
          const [, kind, id] = /^GET \/(case|next)\/(\d+)/.exec(data.got)!;
          data.got = "";
          if (kind === "case") socket.write(prepared.get(Number(id))!);
          else socket.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext");
        },
      },
    });
    await fuzz(async (seed) => {
      const input = latin1(responseMutant(seededRandom(seed)));
      const passedOn = passResponse(input);
      if (passedOn === undefined) return false;
      prepared.set(seed, passedOn.bytes);
      const { first, second } = await peer.ask(server.port, seed);
      prepared.delete(seed);
      const at = `seed ${seed}, ${JSON.stringify(input.latin1Slice(0, input.length))}`;
      const ours = passedOn.messages[0]!;
      const theirs = "error" in first ? first : { ...first, fields: compared(first.fields) };
      expect({ at, answer: theirs }).toEqual({ at, answer: { ...ours, fields: compared(ours.fields) } });
      expect({ at, next: (second as NodeMessage).body }).toEqual({ at, next: Buffer.from("next").toString("base64") });
      return true;
    });
    server.stop(true);
  }, 20_000);
});
