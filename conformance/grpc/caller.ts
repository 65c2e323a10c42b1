// A pod that calls the greeter when asked: GET /?count=100&user=… answers how often each answer came, all over one connection.

import * as grpc from "@grpc/grpc-js";
import { greet } from "./greeter.ts";

const client = new grpc.Client(process.env["TARGET"]!, grpc.credentials.createInsecure());

const call = (user: string): Promise<string> =>
  new Promise((resolve) => {
    const metadata = new grpc.Metadata();
    metadata.set("x-user", user);
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

Bun.serve({
  port: Number(process.env["PORT"]),
  async fetch(request) {
    const { searchParams } = new URL(request.url);
    const counts: Record<string, number> = {};
    for (let i = Number(searchParams.get("count") ?? "1"); i > 0; i--) {
      const answer = await call(searchParams.get("user") ?? "nobody");
      counts[answer] = (counts[answer] ?? 0) + 1;
    }
    return Response.json(counts);
  },
});
