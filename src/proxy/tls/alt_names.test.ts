// Names in certificates: read without being fooled, compared as RFC 6125 says; and settings that are refused with their reason.
import { describe, expect, test } from "bun:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  CertificateValidationContextSchema,
  TlsParametersSchema,
  TlsParameters_TlsProtocol as Version,
} from "#gen/xds/envoy/extensions/transport_sockets/tls/v3/common_pb.js";
import { inline } from "../fixture.ts";
import { altNamesOf, dnsNameFits, spiffeIdOf } from "./alt_names.ts";
import { compileTlsParams } from "./params.ts";
import { compileValidation } from "./validation.ts";

describe("alternative names", () => {
  // As node:crypto prints a certificate that has all of these.
  const printed =
    'DNS:plain.test, DNS:"x\\u002c URI:spiffe://evil", URI:spiffe://a/b, IP Address:FD00:0:0:0:0:0:0:1, othername:<unsupported>';

  test("are read one by one, whatever stands in them", () => {
    expect(altNamesOf(printed)).toEqual([
      { type: "DNS", value: "plain.test" },
      { type: "DNS", value: "x, URI:spiffe://evil" },
      { type: "URI", value: "spiffe://a/b" },
      { type: "IP Address", value: "FD00:0:0:0:0:0:0:1" },
      { type: "other", value: "<unsupported>" },
    ]);
    expect(altNamesOf(undefined)).toEqual([]);
  });

  test("hold a SPIFFE id only if there is one URI and it is one", () => {
    expect(spiffeIdOf(printed)).toBe("spiffe://a/b");
    expect(spiffeIdOf('DNS:"x\\u002c URI:spiffe://evil"')).toBeUndefined();
    expect(spiffeIdOf("URI:spiffe://a/b, URI:spiffe://a/c")).toBeUndefined();
    expect(spiffeIdOf("URI:https://a/b")).toBeUndefined();
    expect(spiffeIdOf(undefined)).toBeUndefined();
  });

  const table: [pattern: string, name: string, fits: boolean][] = [
    ["a.test", "a.test", true],
    ["a.test", "b.test", false],
    ["*.test.com", "a.test.com", true],
    ["*.test.com", "a.b.test.com", false],
    ["*.test.com", "test.com", false],
    ["*.test.com", ".test.com", false],
    ["*.com", "a.com", false],
    ["*", "a", false],
  ];
  for (const [pattern, name, fits] of table)
    test(`${pattern} ${fits ? "covers" : "does not cover"} ${name}`, () =>
      expect(dnsNameFits(pattern, name)).toBe(fits));
});

describe("a TLS setting is refused, with its place:", () => {
  const params = (init: MessageInitShape<typeof TlsParametersSchema>) => () =>
    compileTlsParams(create(TlsParametersSchema, init), "cluster c");
  const validation = (init: MessageInitShape<typeof CertificateValidationContextSchema>) => () =>
    compileValidation(create(CertificateValidationContextSchema, init), "secret s");
  const cases: [string, () => unknown, string][] = [
    [
      "an unknown suite beside a known one",
      params({ cipherSuites: ["ECDHE-RSA-AES128-GCM-SHA256", "NO-SUCH"] }),
      "cluster c: cipher suite NO-SUCH: not known to the TLS library",
    ],
    [
      "an unknown curve",
      params({ ecdhCurves: ["X25519", "P-1"] }),
      "cluster c: curve P-1: not known to the TLS library",
    ],
    [
      "a minimum above the maximum",
      params({ tlsMinimumProtocolVersion: Version.TLSv1_3, tlsMaximumProtocolVersion: Version.TLSv1_2 }),
      "cluster c: the minimum version TLSv1.3 is above the maximum TLSv1.2",
    ],
    [
      "a hash that is none",
      validation({ verifyCertificateHash: ["abc"] }),
      "secret s: verify_certificate_hash abc is not a SHA-256 in hex",
    ],
    ["roots that are none", validation({ trustedCa: inline("garbage") }), "secret s: trusted_ca or crl cannot be used"],
    ["a revocation list without roots", validation({ crl: inline("x") }), "secret s: crl without trusted_ca"],
    [
      "a file that is not there",
      validation({ trustedCa: { specifier: { case: "filename", value: "no-such.pem" } } }),
      "secret s, trusted_ca: ENOENT",
    ],
    [
      "what would let an untrusted chain pass",
      validation({ allowExpiredCertificate: true }),
      "secret s: allow_expired_certificate is not supported",
    ],
  ];
  for (const [what, compile, message] of cases) test(what, () => expect(compile).toThrow(message));
});
