// Reads the PROXY protocol's header, version 1 or 2, in front of a connection: who the client of the load balancer before us is.

import { isIPv4, isIPv6 } from "node:net";

export interface ProxyHeader {
  /** Bytes it takes. */
  length: number;
  /** Undefined: the balancer speaks for itself, or for a family without addresses. */
  source: { address: string; port: number } | undefined;
}

const lineBytesMax = 107;
const signature = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
/** A version 2 header with all its extensions; longer ones are refused. */
const headerBytesMax = 4_096;

/** "more": bytes are missing; undefined: this is no such header. */
export function readProxyHeader(bytes: Buffer): ProxyHeader | "more" | undefined {
  if (startsWith(bytes, signature)) return readBinary(bytes);
  return startsWith(bytes, Buffer.from("PROXY ")) ? readLine(bytes) : undefined;
}

const startsWith = (bytes: Buffer, prefix: Buffer): boolean => {
  const length = Math.min(bytes.length, prefix.length);
  return bytes.compare(prefix, 0, length, 0, length) === 0;
};

function readLine(bytes: Buffer): ProxyHeader | "more" | undefined {
  const end = bytes.indexOf("\r\n");
  if (end < 0) return bytes.length < lineBytesMax ? "more" : undefined;
  if (end + 2 > lineBytesMax) return undefined;
  const [, family, address = "", , port = "", ...more] = bytes.latin1Slice(0, end).split(" ");
  if (family === "UNKNOWN") return { length: end + 2, source: undefined };
  const isAddress = family === "TCP4" ? isIPv4(address) : family === "TCP6" && isIPv6(address);
  if (!isAddress || more.length !== 1 || !/^\d{1,5}$/.test(port) || Number(port) > 65_535) return undefined;
  return { length: end + 2, source: { address, port: Number(port) } };
}

function readBinary(bytes: Buffer): ProxyHeader | "more" | undefined {
  if (bytes.length < 16) return "more";
  const [version, family] = [bytes[12]!, bytes[13]!];
  const length = 16 + bytes.readUInt16BE(14);
  if (version >> 4 !== 2 || (version & 15) > 1 || length > headerBytesMax) return undefined;
  if (bytes.length < length) return "more";
  const isLocal = (version & 15) === 0;
  if (isLocal || family === 0) return { length, source: undefined };
  if (family === 0x11 && length >= 28)
    return { length, source: { address: bytes.subarray(16, 20).join("."), port: bytes.readUInt16BE(24) } };
  if (family !== 0x21 || length < 52) return undefined;
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(16 + 2 * i).toString(16));
  return { length, source: { address: groups.join(":"), port: bytes.readUInt16BE(48) } };
}
