// The one method that the proxyless test calls, as client and server write it without generated code.

import type { MethodDefinition } from "@grpc/grpc-js";

const encode = (text: string): Buffer => Buffer.from(text);
const decode = (bytes: Buffer): string => bytes.toString();

/** Answers who answered. */
export const greet: MethodDefinition<string, string> = {
  path: "/test.Greeter/Greet",
  requestStream: false,
  responseStream: false,
  requestSerialize: encode,
  requestDeserialize: decode,
  responseSerialize: encode,
  responseDeserialize: decode,
};
