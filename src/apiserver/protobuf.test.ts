// Protobuf bodies, as recorded from kubectl 1.32, against the JSON they mean.

import { expect, test } from "bun:test";
import { ApiFailure } from "./failure.ts";
import { decodeProtobuf } from "./protobuf.ts";

const recorded = {
  deployment:
    "azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50ErgBCh8KA3dlYhIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViEoYBCAASDAoKCgNhcHASA3dlYhpsChwKABIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViEkwSLgoFbmdpbngSBW5naW54KgAyCgoAEAAYUCIAKgBCAGoAcgCAAQCIAQCQAQCiAQAaADIAQgBKAFIAWABgAGgAggEAigEAmgEAwgEAIgIKACgAOAAaDAgAEAAYACAAKAA4ABoAIgA=",
  secret: "azhzAAoMCgJ2MRIGU2VjcmV0Eh0KEQoBcxIAGgAiACoAMgA4AEIAEgYKAXASAXcaABoAIgA=",
  budget:
    "azhzAAogCglwb2xpY3kvdjESE1BvZERpc3J1cHRpb25CdWRnZXQSNgoRCgF4EgAaACIAKgAyADgAQgASFQoJCAEQABoDNTAlEggKBgoBYRIBYhoKCAAYACAAKAAwABoAIgA=",
  service:
    "azhzAAoNCgJ2MRIHU2VydmljZRJsCh0KAmRiEgAaACIAKgAyADgAQgBaCQoDYXBwEgJkYhJHCiEKCTU0MzItaHR0cBIDVENQGLgqIgoIARAAGgRodHRwKAASCQoDYXBwEgJkYhoAIglDbHVzdGVySVA6AEIAUgBaAGAAaAAaAgoAGgAiAA==",
};
const bytesOf = (name: keyof typeof recorded) => Buffer.from(recorded[name], "base64");

test("a deployment keeps a zero that was given and drops those that mean nothing", async () => {
  const container = { name: "nginx", image: "nginx", ports: [{ containerPort: 80 }], resources: {} };
  expect(await decodeProtobuf(bytesOf("deployment"))).toEqual({
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "web", creationTimestamp: null, labels: { app: "web" } },
    spec: {
      replicas: 0,
      selector: { matchLabels: { app: "web" } },
      template: {
        metadata: { creationTimestamp: null, labels: { app: "web" } },
        spec: { containers: [container] },
      },
      strategy: {},
    },
    status: {},
  });
});

test("bytes become base64", async () => {
  expect(await decodeProtobuf(bytesOf("secret"))).toMatchObject({ kind: "Secret", data: { p: "dw==" } });
});

test("an integer or a text is what it was", async () => {
  expect(await decodeProtobuf(bytesOf("budget"))).toMatchObject({
    apiVersion: "policy/v1",
    spec: { minAvailable: "50%", selector: { matchLabels: { a: "b" } } },
  });
  expect(await decodeProtobuf(bytesOf("service"))).toMatchObject({
    spec: { type: "ClusterIP", ports: [{ name: "5432-http", protocol: "TCP", port: 5432, targetPort: "http" }] },
  });
});

test("a body that was cut or bent is refused as such, whatever the place", async () => {
  const whole = bytesOf("deployment");
  for (let length = 0; length < whole.length; length++) {
    const outcome = await decodeProtobuf(whole.subarray(0, length)).catch((error: unknown) => error);
    if (outcome instanceof Error) expect(outcome).toBeInstanceOf(ApiFailure);
  }
  for (let at = 4; at < whole.length; at++) {
    const bent = Buffer.from(whole);
    bent[at] = 0xff;
    const outcome = await decodeProtobuf(bent).catch((error: unknown) => error);
    if (outcome instanceof Error) expect(outcome).toBeInstanceOf(ApiFailure);
  }
});

test("an unknown kind is 415, an unknown field 400", async () => {
  const gadget = Buffer.from(bytesOf("secret").toString("latin1").replace("Secret", "Gadget"), "latin1");
  await expect(decodeProtobuf(gadget)).rejects.toMatchObject({ status: { code: 415 } });
  // Field 15 after the rest; the length of the envelope's raw bytes grows with it.
  const longer = Buffer.concat([
    bytesOf("secret").subarray(0, -4),
    Buffer.from([0x78, 0x01]),
    Buffer.from([0x1a, 0, 0x22, 0]),
  ]);
  longer[longer.indexOf(Buffer.from([0x12, 0x1d])) + 1] = 0x1f;
  await expect(decodeProtobuf(longer)).rejects.toMatchObject({ status: { code: 400 } });
});
