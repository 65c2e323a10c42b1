// A gRPC client without a proxy: reads {target, count, headers} by line, calls that often, writes how often each answer came.

import { createInterface } from "node:readline";
import * as grpc from "@grpc/grpc-js";
import * as xds from "@grpc/grpc-js-xds";
import { greet } from "./greeter.ts";

xds.register();
const clients = new Map<string, grpc.Client>();
const atOnce = 16;

function call(client: grpc.Client, headers: Record<string, string>): Promise<string> {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      greet.path,
      greet.requestSerialize,
      greet.responseDeserialize,
      "who",
      metadata,
      { deadline: Date.now() + 5_000 },
      (error, answer) => resolve(error ? `error ${error.code} ${error.details}` : String(answer)),
    );
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const { target, count, headers = {} } = JSON.parse(line);
  let client = clients.get(target);
  if (client === undefined) {
    client = new grpc.Client(target, grpc.credentials.createInsecure());
    clients.set(target, client);
  }
  const counts: Record<string, number> = {};
  let started = 0;
  const worker = async () => {
    while (started < count) {
      started++;
      const answer = await call(client, headers);
      counts[answer] = (counts[answer] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  console.log(JSON.stringify(counts));
}
process.exit(0);
