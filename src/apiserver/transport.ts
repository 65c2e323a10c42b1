// The API for callers inside this process: the request core without HTTP, acting as the system itself.

import type { ApiRequest, ApiTransport } from "../api/rest.ts";
import type { Core } from "./core.ts";
import { ApiFailure } from "./failure.ts";
import type { Answer, CoreRequest, User } from "./types.ts";

const system: User = { name: "system:apiserver", groups: ["system:masters"] };
const neverAborted = new AbortController().signal;

export function createTransport(core: Core, user: User = system): ApiTransport {
  const ask = (request: ApiRequest, query: Record<string, string>, signal: AbortSignal): Promise<Answer> =>
    core.handle(coreRequest(request, query, user, signal));
  return {
    async request(request) {
      const answer = await ask(request, request.query ?? {}, neverAborted);
      if (answer.kind === "json") return { status: answer.status, body: answer.body };
      if (answer.kind === "text") return { status: answer.status, body: answer.text };
      if (answer.kind === "stream") return { status: 200, body: await textOf(answer.chunks) };
      throw new Error(`${request.path} is a watch: use watch()`);
    },
    async *watch(request, signal) {
      const answer = await ask(request, { watch: "true", ...request.query }, signal);
      if (answer.kind === "watch") yield* answer.events;
      else if (answer.kind === "json") {
        const { code = 500, reason = "Unknown", message = "", details } = answer.body as ApiFailure["status"];
        throw new ApiFailure(code, reason, message, details);
      } else throw new Error(`${request.path} cannot be watched`);
    },
  };
}

function coreRequest(
  { method, path, contentType, body }: ApiRequest,
  query: Record<string, string>,
  user: User,
  signal: AbortSignal,
): CoreRequest {
  return {
    method,
    path,
    query,
    accept: "",
    contentType: contentType ?? "application/json",
    // The core changes what it gets, and knows only what JSON can say.
    body: body === undefined ? undefined : JSON.parse(JSON.stringify(body)),
    bodyText: undefined,
    user,
    signal,
  };
}

async function textOf(chunks: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts).toString();
}
