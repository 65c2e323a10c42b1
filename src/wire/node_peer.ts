// Node's HTTP server and client in a child process, for tests: an independent reading (llhttp, strict) of what we send.

/** As Node has read it. */
export interface NodeMessage {
  /** Method and target, or status. */
  start: string;
  /** "name: value", names in lower case. */
  fields: string[];
  /** In base64. */
  body: string;
}

export interface NodeReport {
  first: NodeMessage | { error: string };
  second: NodeMessage | { error: string };
}

export interface NodePeer {
  /** Its server answers every request with 200 and what it has read as `x-seen` (base64 of JSON). */
  readonly port: number;
  /** Methods it knows. */
  readonly methods: ReadonlySet<string>;
  /** Asks 127.0.0.1:`port` for /case/<id> and then, on the same connection if it can, for /next/<id>. */
  ask(port: number, id: number): Promise<NodeReport>;
  /** Requests its server has read so far. */
  served(): Promise<number>;
  close(): Promise<void>;
}

const nodeProgram = `
const http = require("http");
const seen = (message, start) => {
  const fields = [];
  for (let i = 0; i < message.rawHeaders.length; i += 2)
    fields.push(message.rawHeaders[i].toLowerCase() + ": " + message.rawHeaders[i + 1]);
  return new Promise((resolve, reject) => {
    const parts = [];
    message.on("data", (part) => parts.push(part)).on("error", reject);
    message.on("aborted", () => reject(new Error("aborted")));
    message.on("end", () => resolve({ start, fields, body: Buffer.concat(parts).toString("base64") }));
  });
};
let served = 0;
const answer = async (request, response) => {
  if (request.url !== "/served") served++;
  response.setHeader("x-served", String(served));
  try {
    const message = await seen(request, request.method + " " + request.url);
    // Where HEAD's answer cannot say it.
    response.setHeader("x-seen", Buffer.from(JSON.stringify(message)).toString("base64"));
    response.setHeader("content-length", "0");
    response.end();
  } catch {}
};
const options = { insecureHTTPParser: false, maxHeaderSize: 65536, keepAliveTimeout: 60000 };
const server = http.createServer(options, answer);
server.on("checkContinue", answer).on("checkExpectation", answer);
server.listen(0, "127.0.0.1", () => process.stdout.write(JSON.stringify({ port: server.address().port, methods: http.METHODS }) + "\\n"));
const ask = (agent, port, path) => new Promise((resolve) => {
  const request = http.request({ host: "127.0.0.1", port, path, agent, insecureHTTPParser: false }, (response) => {
    seen(response, String(response.statusCode)).then(resolve, (error) => resolve({ error: error.message }));
  });
  request.setTimeout(1000, () => request.destroy(new Error("timeout")));
  request.on("error", (error) => resolve({ error: error.code || error.message }));
  request.end();
});
require("readline").createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, port } = JSON.parse(line);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const first = await ask(agent, port, "/case/" + id);
  const second = await ask(agent, port, "/next/" + id);
  agent.destroy();
  process.stdout.write(JSON.stringify({ id, first, second }) + "\\n");
}).on("close", () => { server.close(); server.closeAllConnections(); });`;

/** What answers of its server say it has read, in order. */
export function seenIn(answers: string): NodeMessage[] {
  return [...answers.matchAll(/x-seen: (\S+)/g)].map(
    ([, text]) => JSON.parse(Buffer.from(text!, "base64").toString()) as NodeMessage,
  );
}

export async function startNodePeer(node: string): Promise<NodePeer> {
  const child = Bun.spawn([node, "-e", nodeProgram], { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
  const ready = Promise.withResolvers<{ port: number; methods: string[] }>();
  const waiting = new Map<number, (report: NodeReport) => void>();
  void (async () => {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const part of child.stdout) {
      const lines = (rest + decoder.decode(part, { stream: true })).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        const said = JSON.parse(line);
        if (said.methods) ready.resolve(said);
        waiting.get(said.id)?.(said);
      }
    }
  })();
  const { port, methods } = await ready.promise;
  return {
    port,
    methods: new Set(methods),
    async ask(at, id) {
      const { promise, resolve } = Promise.withResolvers<NodeReport>();
      waiting.set(id, resolve);
      child.stdin.write(`${JSON.stringify({ id, port: at })}\n`);
      await child.stdin.flush();
      const report = await promise;
      waiting.delete(id);
      return report;
    },
    async served() {
      return Number((await fetch(`http://127.0.0.1:${port}/served`)).headers.get("x-served"));
    },
    async close() {
      child.stdin.end();
      await child.exited;
    },
  };
}
