// Tries to get through a workload's tunnel port with certificates from a file: for each what became of it, as JSON.

import { readFileSync } from "node:fs";
import tls from "node:tls";

interface Attempt {
  name: string;
  /** None: the client shows no certificate. */
  cert?: string;
  key?: string;
}

const { ip, target, path, attempts } = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as {
  ip: string;
  /** "ip:port" behind the tunnel. */
  target: string;
  path: string;
  attempts: Attempt[];
};
const answerMaxMs = 3_000;

/** Everything that came back, or why nothing did. */
function tryOnce({ cert, key }: Attempt): Promise<string> {
  return new Promise((resolve) => {
    let got = "";
    let isOpen = false;
    const socket = tls.connect({ host: ip, port: 15008, rejectUnauthorized: false, ...(cert && { cert, key }) });
    const finish = (reason: string) => {
      socket.destroy();
      resolve(got || reason);
    };
    socket.setTimeout(answerMaxMs, () => finish("nothing came back"));
    socket.on("secureConnect", () => socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`));
    socket.on("data", (chunk) => {
      got += chunk;
      if (!isOpen && got.startsWith("HTTP/1.1 200")) {
        isOpen = true;
        got = "";
        socket.write(`GET ${path} HTTP/1.1\r\nHost: server.echo\r\nConnection: close\r\n\r\n`);
      }
    });
    socket.on("error", (error) => finish(`error ${error.message}`));
    socket.on("close", () => finish("closed"));
  });
}

const outcomes: Record<string, string> = {};
for (const attempt of attempts) outcomes[attempt.name] = await tryOnce(attempt);
console.log(JSON.stringify(outcomes));
process.exit(0);
