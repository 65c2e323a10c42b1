// Random HTTP/1.1 messages and the ways attackers bend them, for tests: each piece has told two parsers apart before. Same seed, same bytes.

import type { Random } from "../kernel/random.ts";

export const oneOf = <T>(random: Random, list: readonly T[]): T => list[random.below(list.length)]!;

const methods = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"] as const;
const targets = [
  "/",
  "/a?b=c",
  "/%2e/x",
  "/a//b",
  "*",
  "http://a.test/x",
  "http://b.test",
  "//a.test/x",
  "/\x7f",
  "/a b",
];
const nameCharacters = "!#$%&'*+-.^_`|~09azAZ";
const valueCharacters = ' \tabc:;,="(){}[]/\\?@<>~\x80\xff';
const hosts = ["Host: a.test", "host:a.test:80", "HOST: \t a.test \t", "Host: b.test", "Host:", "Host: a.test, b.test"];

/** One field line without its end. */
const framing = [
  "Content-Length: 3",
  "Content-Length: 0",
  "content-length:\t3 ",
  "Content-Length: 3\t",
  "Content-Length: 003",
  "Content-Length: 3, 3",
  "Content-Length: +3",
  "Content-Length: -3",
  "Content-Length: 0x3",
  "Content-Length: 3 3",
  "Content-Length: 3.0",
  "Content-Length: 99999999999999999999",
  "Content-Length: 18446744073709551619",
  "Content-Length:",
  "Content-Length : 3",
  "Content_Length: 3",
  "Transfer-Encoding: chunked",
  "transfer-encoding:chunked ",
  "Transfer-Encoding: chunked\t",
  "Transfer-Encoding:\tchunked",
  "Transfer-Encoding: Chunked",
  "Transfer-Encoding: identity",
  "Transfer-Encoding: chunked, identity",
  "Transfer-Encoding: identity, chunked",
  "Transfer-Encoding: gzip, chunked",
  "Transfer-Encoding: chunked;q=1",
  'Transfer-Encoding: "chunked"',
  "Transfer-Encoding: xchunked",
  "Transfer-Encoding: chunk",
  "Transfer-Encoding: \x0bchunked",
  "Transfer-Encoding:\xa0chunked",
  "Transfer-Encoding : chunked",
  " Transfer-Encoding: chunked",
  "Transfer-Encoding\t: chunked",
  "Transfer-Encoding:",
  "Transfer-Encoding:\r\n chunked",
  "X: y\nTransfer-Encoding: chunked",
  "X: y\rTransfer-Encoding: chunked",
  "X: \0\r\nTransfer-Encoding: chunked",
];
const others = [
  "Connection: close",
  "Connection: keep-alive, x-hop",
  "Connection: content-length",
  "Connection: transfer-encoding, host",
  "Keep-Alive: timeout=5",
  "TE: trailers, gzip",
  "Trailer: x-sum",
  "Expect: 200-ok",
  "Upgrade: h2c",
  "X-Hop: 1",
  "X-Empty:",
  "X-Folded: a\r\n b",
  "X-Folded:\r\n\tb",
  ": no name",
  "no colon",
  "X-Bell: \x07",
  "X\x80: high",
  "X(Y): no token",
  "Accept: */*",
];
const ends = ["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", "\n\r\n", "\0\r\n"];

const chunkBreakers = [
  " 3\r\nabc\r\n",
  "3 \r\nabc\r\n",
  "0x3\r\nabc\r\n",
  "+3\r\nabc\r\n",
  "-1\r\nabc\r\n",
  "3\nabc\r\n",
  "3\r\nabc\n",
  "3\r\nabcd\r\n",
  "3;\r\nabc\r\n",
  "3;a=b;c\r\nabc\r\n",
  '3;a="\r\nabc\r\n',
  "3;a\nb\r\nabc\r\n",
  "3;\0\r\nabc\r\n",
  "3\t;a\r\nabc\r\n",
  "00000000003\r\nabc\r\n",
  "0000000000000000000003\r\nabc\r\n",
  "10000000000000003\r\nabc\r\n",
  "fffffffffffffffd\r\nabc\r\n",
  "3\r\nabc0\r\n\r\n",
  "\r\n3\r\nabc\r\n",
  "g\r\nabc\r\n",
];
const lastChunks = [
  "0\r\n\r\n",
  "0\r\n\r\n",
  "0\r\n\r\n",
  "0\r\nX-Sum: 1\r\n\r\n",
  "0\r\nContent-Length: 7\r\nHost: evil\r\n\r\n",
  "0\r\nTransfer-Encoding: chunked\r\n\r\n",
  "0;last\r\n\r\n",
  "000\r\n\r\n",
  "0\r\n folded: x\r\n\r\n",
  "0\r\nx : y\r\n\r\n",
  "0\r\nno colon\r\n\r\n",
  "0\r\n\n",
  "0\n\n",
  "0\r\n",
  "0\r\n\r\r\n",
];

export function text(random: Random, alphabet: string, length: number): string {
  let out = "";
  for (let i = 0; i < length; i++) out += alphabet[random.below(alphabet.length)];
  return out;
}

function plainField(random: Random): string {
  return `x-${text(random, nameCharacters, 1 + random.below(8))}:${text(random, " \t", random.below(3))}${text(random, valueCharacters, random.below(12))}`;
}

function chunked(random: Random, hostile: boolean): string {
  let body = "";
  for (let i = random.below(3); i > 0; i--) {
    const data = text(random, "abc\r\n\0", 1 + random.below(20));
    const size = data.length.toString(16);
    body += `${random.below(2) ? size : size.toUpperCase()}\r\n${data}\r\n`;
  }
  if (hostile) body += oneOf(random, chunkBreakers);
  return body + (hostile ? oneOf(random, lastChunks) : "0\r\n\r\n");
}

/** The field lines and body of a message; `hostile` mixes in what should not be there. */
function rest(random: Random, lines: string[], hostile: boolean): string {
  for (let i = random.below(3); i > 0; i--) lines.push(plainField(random));
  let body = "";
  const kind = random.below(4);
  if (kind === 0) {
    body = text(random, "abc\r\n\0", random.below(12));
    lines.push(`Content-Length: ${body.length}`);
  } else if (kind === 1) {
    lines.push("Transfer-Encoding: chunked");
    body = chunked(random, hostile && random.below(2) === 0);
  } else if (hostile && kind === 2)
    body = oneOf(random, ["abc", chunked(random, true), "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"]);
  const extra = hostile ? random.below(3) : 0;
  for (let i = 0; i < extra; i++) {
    const list = random.below(2) ? framing : others;
    lines.splice(1 + random.below(lines.length), 0, oneOf(random, list));
  }
  const end = hostile && random.below(8) === 0 ? oneOf(random, ends) : "\r\n";
  const at = random.below(lines.length);
  return `${lines.map((line, i) => line + (i === at ? end : "\r\n")).join("")}\r\n${body}`;
}

/** Bytes changed, lost, doubled or moved, anywhere. */
function damage(random: Random, message: string): string {
  const at = random.below(message.length);
  switch (random.below(5)) {
    case 0:
      return message.slice(0, at) + String.fromCharCode(random.below(256)) + message.slice(at + 1);
    case 1:
      return message.slice(0, at) + message.slice(at + 1 + random.below(3));
    case 2:
      return (
        message.slice(0, at) +
        oneOf(random, ["\r\n", "\n", "\r", " ", "\t", "\0", ":", ",", ";", "\x0b", "\x85"]) +
        message.slice(at)
      );
    case 3:
      return message.slice(0, at) + message.slice(Math.max(0, at - 20));
    default:
      return message.slice(0, at);
  }
}

/** One request. Half of them are what a well-behaved client might send. */
export function requestMutant(random: Random): string {
  const hostile = random.below(2) === 0;
  const target = hostile ? oneOf(random, targets) : `/${text(random, "abc/%20?=&;:@!$'()*+,-._~", random.below(20))}`;
  const version =
    hostile && random.below(6) === 0
      ? oneOf(random, ["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 "])
      : "HTTP/1.1";
  const lines = [`${oneOf(random, methods)} ${target} ${version}`];
  lines.push(hostile ? oneOf(random, hosts) : "Host: a.test");
  const message = rest(random, lines, hostile);
  return hostile && random.below(3) === 0 ? damage(random, message) : message;
}

/** A connection's worth of requests. */
export function requestPipeline(random: Random): string {
  let out = "";
  for (let i = 1 + random.below(3); i > 0; i--) out += requestMutant(random);
  return out;
}

const statusLines = [
  "HTTP/1.1 200 OK",
  "HTTP/1.1 200",
  "HTTP/1.0 200 OK",
  "HTTP/1.1 204 No Content",
  "HTTP/1.1 304 Not Modified",
  "HTTP/1.1 404 \xe9\xff",
  "HTTP/1.1 500 ",
  "HTTP/1.1  200 OK",
  "HTTP/1.1 0200 OK",
  "HTTP/1.1 20 OK",
  "HTTP/1.1 -20 OK",
  "HTTP/1.1 2O0 OK",
  "HTTP/1.1 099 OK",
  "HTTP/1.1\t200 OK",
  "HTTP/1.2 200 OK",
  "HTTP/1.1 200 O\0K",
  "HTTP/1.1 200 O\rK",
  " HTTP/1.1 200 OK",
  "ICY 200 OK",
];

/** One answer, sometimes after an interim one. */
export function responseMutant(random: Random): string {
  const hostile = random.below(2) === 0;
  const interim = random.below(6) === 0 ? "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" : "";
  const status = hostile
    ? oneOf(random, statusLines)
    : `HTTP/1.1 ${oneOf(random, [200, 201, 204, 304, 404, 503])} text`;
  const message = rest(random, [status], hostile);
  return interim + (hostile && random.below(3) === 0 ? damage(random, message) : message);
}
