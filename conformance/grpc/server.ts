// A gRPC server as a pod: answers with its $VERSION on $PORT.

import * as grpc from "@grpc/grpc-js";
import { greet } from "./greeter.ts";

const server = new grpc.Server();
server.addService({ greet }, {
  greet: (_call: grpc.ServerUnaryCall<string, string>, answer: grpc.sendUnaryData<string>) =>
    answer(null, process.env["VERSION"] ?? "none"),
} as grpc.UntypedServiceImplementation);
server.bindAsync(`0.0.0.0:${process.env["PORT"]}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
});
