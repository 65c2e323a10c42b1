// Stand-in for the guestbook's front end: GET shows the entries, POST adds one; keeps them in the store it finds by name.

const host = process.env["STORE_HOST"] ?? "redis-leader";
const port = Number(process.env["STORE_PORT"] ?? 6379);

function command(line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    Bun.connect({
      hostname: host,
      port,
      socket: {
        open: (socket) => void socket.write(`${line}\r\n`),
        data(socket, chunk) {
          text += chunk.toString();
          socket.end();
        },
        close: () => resolve(text),
        connectError: (_socket, error) => reject(error),
      },
    }).catch(reject);
  });
}

const server = Bun.serve({
  hostname: process.env["HOST"] ?? "0.0.0.0",
  port: Number(process.env["PORT"] ?? 80),
  async fetch(request) {
    if (new URL(request.url).pathname === "/healthz") return new Response("ok");
    if (request.method === "POST") {
      await command(`RPUSH guestbook ${(await request.text()).replace(/[\r\n]+/g, " ")}`);
      return new Response("added\n", { status: 201 });
    }
    const entries = (await command("LRANGE guestbook"))
      .split("\r\n")
      .filter((line) => line !== "" && !/^[*$]\d+$/.test(line));
    const greeting = process.env["GREETING"] ?? "guestbook";
    return new Response(`${greeting}\n${entries.join("\n")}\n`, {
      headers: { "x-pod": process.env["HOSTNAME"] ?? "" },
    });
  },
});
console.log(`front end listens on ${server.port}, version ${process.env["VERSION"] ?? "1"}`);
process.on("SIGTERM", async () => {
  await server.stop();
  process.exit(0);
});

export {};
