// Which filter chain a connection belongs to, as a table.
import { describe, expect, test } from "bun:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  FilterChainMatchSchema,
  FilterChainMatch_ConnectionSourceType as SourceType,
} from "#gen/xds/envoy/config/listener/v3/listener_components_pb.js";
import { type Arrival, chooseMatch, compileChainMatch } from "./chain_match.ts";

type Init = MessageInitShape<typeof FilterChainMatchSchema>;
const compile = (name: string, init: Init) => ({
  name,
  ...compileChainMatch(create(FilterChainMatchSchema, init), name),
});
const range = (addressPrefix: string, prefixLen: number) => ({ addressPrefix, prefixLen });

const arrival = (more: Partial<Arrival> & { name?: string; alpn?: string[] }): Arrival => ({
  localAddress: "10.0.0.1",
  localPort: 443,
  remoteAddress: "10.9.9.9",
  remotePort: 5000,
  hello: more.name === undefined ? undefined : { serverName: more.name, alpn: more.alpn ?? [] },
  ...more,
});

describe("a filter chain is chosen", () => {
  const chains = [
    compile("any name", { transportProtocol: "tls" }),
    compile("exact", { serverNames: ["A.test"] }),
    compile("suffix", { serverNames: ["*.test"] }),
    compile("longer suffix", { serverNames: ["*.deep.test"] }),
    compile("http/1.1", { serverNames: ["alpn.test"], applicationProtocols: ["http/1.1"] }),
    compile("h2", { serverNames: ["alpn.test"], applicationProtocols: ["h2"] }),
    compile("no protocol", { serverNames: ["alpn.test"] }),
    compile("port", { destinationPort: 9000, transportProtocol: "raw_buffer" }),
    compile("port with tls", { destinationPort: 9000, transportProtocol: "tls", serverNames: ["only.test"] }),
    compile("near", { prefixRanges: [range("10.1.0.0", 16)] }),
    compile("nearer", { prefixRanges: [range("10.1.2.0", 24), range("fd00::", 8)] }),
    compile("from a friend", { destinationPort: 7, directSourcePrefixRanges: [range("192.0.2.0", 24)] }),
    compile("from here", { destinationPort: 7, sourceType: SourceType.SAME_IP_OR_LOOPBACK }),
    compile("from this port", { destinationPort: 7, sourcePorts: [99] }),
  ];
  const cases: [string, Parameters<typeof arrival>[0], string | undefined][] = [
    ["by its exact name", { name: "a.test" }, "exact"],
    ["by a suffix of its name", { name: "b.test" }, "suffix"],
    ["by the longest suffix of its name", { name: "x.deep.test" }, "longer suffix"],
    ["for the bare suffix: that is another name", { name: "test" }, "any name"],
    ["for a name nobody asks for", { name: "other.example" }, "any name"],
    ["for no name", { name: "" }, "any name"],
    ["for plain text that nobody takes: none", {}, undefined],
    ["by the client's first protocol", { name: "alpn.test", alpn: ["h2", "http/1.1"] }, "h2"],
    ["by the protocol that is left", { name: "alpn.test", alpn: ["spdy", "http/1.1"] }, "http/1.1"],
    ["without a protocol", { name: "alpn.test", alpn: [] }, "no protocol"],
    ["by port, for plain text", { localPort: 9000 }, "port"],
    ["by port and name", { localPort: 9000, name: "only.test" }, "port with tls"],
    ["by port, and then nothing less specific is looked at", { localPort: 9000, name: "a.test" }, undefined],
    ["by its destination's range", { localAddress: "10.1.9.9" }, "near"],
    ["by the longest range", { localAddress: "10.1.2.3" }, "nearer"],
    ["by an IPv6 range", { localAddress: "fd00::1" }, "nearer"],
    ["by the client's range", { localPort: 7, remoteAddress: "192.0.2.5" }, "from a friend"],
    ["for a client on the same machine", { localPort: 7, remoteAddress: "127.0.0.1" }, "from here"],
    ["by the client's port", { localPort: 7, remotePort: 99 }, "from this port"],
  ];
  for (const [how, what, want] of cases)
    test(how, () => {
      expect(chooseMatch(chains, arrival(what))?.name).toBe(want!);
    });
});

test("a star in the middle of a server name is refused, with the chain's name", () => {
  for (const name of ["a.*.test", "*a.test"])
    expect(() => compile("chain 3", { serverNames: [name] })).toThrow(
      `chain 3: server name ${name}: a star stands for the first labels only`,
    );
});

test("matches that differ in anything have different texts, so that their chains keep apart across updates", () => {
  const texts = [
    {},
    { destinationPort: 1 },
    { serverNames: ["a"] },
    { transportProtocol: "tls" },
    { applicationProtocols: ["h2"] },
    { prefixRanges: [range("10.0.0.0", 8)] },
    { directSourcePrefixRanges: [range("10.0.0.0", 8)] },
    { sourceType: SourceType.EXTERNAL },
    { sourcePrefixRanges: [range("10.0.0.0", 8)] },
    { sourcePorts: [1] },
  ].map((init: Init) => compile("x", init).text);
  expect(new Set(texts).size).toBe(texts.length);
  expect(texts[0]).toBe("");
});
