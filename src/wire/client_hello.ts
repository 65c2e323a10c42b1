// Reads server name and ALPN out of a TLS ClientHello (RFC 8446 §4.1.2, RFC 6066 §3) without consuming or checking the rest.

export interface ClientHello {
  /** Lower case; empty when the client sent none. */
  serverName: string;
  alpn: string[];
}

/** A ClientHello longer than this is refused (Envoy: 64 KiB by default; browsers with post-quantum keys send about 2 KiB). */
export const clientHelloBytesMax = 16 * 1024;

/** "more": bytes are missing; undefined: this is not TLS. Fragmented records are put together. */
export function sniffClientHello(buffer: Buffer): ClientHello | "more" | undefined {
  const body: Buffer[] = [];
  let have = 0;
  let need = 4;
  let at = 0;
  while (have < need) {
    if (buffer.length < at + 5) return startsLikeTls(buffer, at) ? "more" : undefined;
    if (!startsLikeTls(buffer, at)) return undefined;
    const length = buffer.readUInt16BE(at + 3);
    if (length === 0 || length > 16384) return undefined;
    const record = buffer.subarray(at + 5, at + 5 + length);
    body.push(record);
    have += record.length;
    if (have >= 4 && need === 4) {
      const head = body.length === 1 ? record : Buffer.concat(body);
      if (head[0] !== 1) return undefined;
      need = 4 + head.readUIntBE(1, 3);
      if (need > clientHelloBytesMax) return undefined;
    }
    if (record.length < length && have < need) return "more";
    at += 5 + length;
  }
  return readHello((body.length === 1 ? body[0]! : Buffer.concat(body)).subarray(4, need));
}

function startsLikeTls(buffer: Buffer, at: number): boolean {
  if (buffer.length > at && buffer[at] !== 22) return false;
  return !(buffer.length > at + 1 && buffer[at + 1] !== 3);
}

function readHello(hello: Buffer): ClientHello | undefined {
  const result: ClientHello = { serverName: "", alpn: [] };
  let at = 2 + 32;
  if (hello.length < at + 1) return undefined;
  at += 1 + hello[at]!;
  if (hello.length < at + 2) return undefined;
  at += 2 + hello.readUInt16BE(at);
  if (hello.length < at + 1) return undefined;
  at += 1 + hello[at]!;
  if (hello.length < at + 2) return result;
  const end = Math.min(hello.length, at + 2 + hello.readUInt16BE(at));
  at += 2;
  while (at + 4 <= end) {
    const type = hello.readUInt16BE(at);
    const length = hello.readUInt16BE(at + 2);
    const data = hello.subarray(at + 4, Math.min(end, at + 4 + length));
    if (type === 0 && data.length > 5 && data[2] === 0)
      result.serverName = data.toString("latin1", 5, 5 + data.readUInt16BE(3)).toLowerCase();
    if (type === 16) result.alpn = readProtocolList(data);
    at += 4 + length;
  }
  return result;
}

function readProtocolList(data: Buffer): string[] {
  const protocols: string[] = [];
  for (let at = 2; at < data.length; at += 1 + data[at]!)
    protocols.push(data.toString("latin1", at + 1, at + 1 + data[at]!));
  return protocols;
}
