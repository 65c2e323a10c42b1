// The PROXY protocol's header as a table, whole and byte by byte.
import { expect, test } from "bun:test";
import { type ProxyHeader, readProxyHeader } from "./proxy_protocol.ts";

const binary = (version: number, family: number, payload: number[]): Buffer =>
  Buffer.concat([
    Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1"),
    Buffer.from([version, family, payload.length >> 8, payload.length & 255, ...payload]),
  ]);
const v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x30, 0x39, 0, 80];
const v6 = [0xfd, ...Array<number>(14).fill(0), 1, ...Array<number>(16).fill(0), 0x30, 0x39, 0, 80];
const from = (address: string): ProxyHeader["source"] => ({ address, port: 12345 });

const good: [string, Buffer, ProxyHeader["source"]][] = [
  ["TCP4", Buffer.from("PROXY TCP4 192.0.2.1 10.0.0.1 12345 80\r\n"), from("192.0.2.1")],
  ["TCP6", Buffer.from("PROXY TCP6 fd00::1 fd00::2 12345 80\r\n"), from("fd00::1")],
  ["UNKNOWN", Buffer.from("PROXY UNKNOWN whatever\r\n"), undefined],
  ["version 2, IPv4", binary(0x21, 0x11, v4), from("192.0.2.1")],
  ["version 2, IPv4 and extensions", binary(0x21, 0x11, [...v4, 1, 0, 2, 3, 4]), from("192.0.2.1")],
  ["version 2, IPv6", binary(0x21, 0x21, v6), from("fd00:0:0:0:0:0:0:1")],
  ["version 2, local", binary(0x20, 0, []), undefined],
];
for (const [what, bytes, source] of good)
  test(`${what} is read, wherever it is cut`, () => {
    expect(readProxyHeader(Buffer.concat([bytes, Buffer.from("GET")]))).toEqual({ length: bytes.length, source });
    for (let i = 0; i < bytes.length; i++) expect(readProxyHeader(bytes.subarray(0, i))).toBe("more");
  });

const bad: [string, Buffer][] = [
  ["a request", Buffer.from("GET / HTTP/1.1\r\n")],
  ["an address of the other family", Buffer.from("PROXY TCP4 fd00::1 fd00::2 1 2\r\n")],
  ["a port that is none", Buffer.from("PROXY TCP4 1.2.3.4 1.2.3.4 70000 2\r\n")],
  ["a missing port", Buffer.from("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n")],
  ["a line without end", Buffer.from(`PROXY UNKNOWN ${"x".repeat(100)}`)],
  ["version 3", binary(0x31, 0x11, v4)],
  ["too short for its family", binary(0x21, 0x11, [1, 2, 3, 4])],
  ["a header of 64 KiB", binary(0x21, 0x11, Array<number>(65_000).fill(0))],
];
for (const [what, bytes] of bad) test(`${what} is refused`, () => expect(readProxyHeader(bytes)).toBeUndefined());
