import { expect, test } from "bun:test";
import { createSelfSigned } from "../../identity/authority.ts";
import { realClock } from "../../kernel/clock.ts";
import { type Manifested, stored } from "../offline.ts";
import { type AnalyzeInput, analyze } from "./analyze.ts";
import { didYouMean, editDistance, nearest } from "./suggest.ts";

const namespace = (name: string, annotations: Record<string, string> = {}): Manifested => ({
  apiVersion: "v1",
  kind: "Namespace",
  metadata: { name, annotations },
});
const codes = (input: AnalyzeInput): string[] =>
  analyze(input).map(({ code, subject }) => `${code} ${subject.metadata.name}`);

test("a finding is silenced by the object's annotation, for one code or all", () => {
  const suppress = (value: string) => ({ "galley.istio.io/analyze-suppress": value });
  const objects = [namespace("a"), namespace("b", suppress("IST0101, IST0102")), namespace("c", suppress("*"))];
  expect(codes({ objects })).toEqual(["IST0102 a"]);
});

test("a finding is silenced by a rule as istioctl writes it", () => {
  const service: Manifested = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web", namespace: "shop" },
    spec: { ports: [{ name: "odd", port: 80 }] },
  };
  const objects = [service, namespace("default")];
  const of = (...suppress: string[]) => codes({ objects, suppress });
  expect(of()).toEqual(["IST0102 default", "IST0118 web"]);
  expect(of("IST0118=Service web.shop")).toEqual(["IST0102 default"]);
  expect(of("IST0118=Service shop/web")).toEqual(["IST0102 default"]);
  expect(of("IST0118=Service *.shop", "IST0102=*")).toEqual([]);
  expect(of("IST0118=Service web.other")).toEqual(["IST0102 default", "IST0118 web"]);
});

test("what is around is used and not reported on; what is given takes its place", () => {
  const gateway = (host: string): Manifested => ({
    apiVersion: "networking.istio.io/v1",
    kind: "DestinationRule",
    metadata: { name: "rule", namespace: "shop" },
    spec: { host },
  });
  const web: Manifested = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web", namespace: "shop" },
    spec: { ports: [{ name: "odd", port: 80 }] },
  };
  expect(codes({ objects: [gateway("web")] })).toEqual(["IST0174 rule"]);
  expect(codes({ objects: [gateway("web")], around: [stored(web), stored(gateway("nobody"))] })).toEqual([]);
});

test("gateways that share a certificate are told, those with their own are not", async () => {
  const own = async () =>
    createSelfSigned({
      commonName: "a",
      dnsNames: ["a.test"],
      ipAddresses: [],
      lifetimeMs: 3_600_000,
      clock: realClock,
    });
  const [first, second] = [await own(), await own()];
  const secret = (name: string, { certPem, keyPem }: { certPem: string; keyPem: string }): Manifested => ({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name, namespace: "istio-system" },
    type: "kubernetes.io/tls",
    stringData: { "tls.crt": certPem, "tls.key": keyPem },
  });
  const pod: Manifested = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "g", namespace: "istio-system", labels: { istio: "g", "sidecar.istio.io/inject": "true" } },
    spec: { containers: [{ name: "istio-proxy", image: "auto" }] },
  };
  const gateway = (name: string, credentialName: string): Manifested => ({
    apiVersion: "networking.istio.io/v1",
    kind: "Gateway",
    metadata: { name, namespace: "shop" },
    spec: {
      selector: { istio: "g" },
      servers: [
        {
          port: { number: 443, name: "https", protocol: "HTTPS" },
          tls: { mode: "SIMPLE", credentialName },
          hosts: [`${name}.test`],
        },
      ],
    },
  });
  const of = (secrets: Manifested[], a: string, b: string) =>
    codes({ objects: [pod, ...secrets, gateway("a", a), gateway("b", b)] }).filter((each) => /IST01(38|61)/.test(each));
  expect(of([secret("one", first)], "one", "one")).toEqual(["IST0138 a", "IST0138 b"]);
  expect(of([secret("one", first), secret("two", second)], "one", "two")).toEqual([]);
  const mixed = { certPem: first.certPem, keyPem: second.keyPem };
  expect(of([secret("one", first), secret("two", mixed)], "one", "two")).toEqual(["IST0161 b"]);
});

test("suggests the name that was meant, and only a near one", () => {
  expect(editDistance("kitten", "sitting")).toBe(3);
  expect(editDistance("ab", "ba")).toBe(1);
  expect(nearest("reveiws", ["ratings", "reviews", "details"])).toBe("reviews");
  expect(nearest("web", ["store", "db"])).toBeUndefined();
  expect(didYouMean("x", ["store"], "nothing")).toBe('there is "store"');
  expect(didYouMean("x", [], "nothing")).toBe("nothing");
});
