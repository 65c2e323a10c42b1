// Stand-in for the guestbook's store: the few commands of the Redis protocol that a guestbook needs, in memory.

const lists = new Map<string, string[]>();
const listLengthMax = 1_000;

function answer(words: string[]): string {
  const [verb = "", key = "", value = ""] = words;
  switch (verb.toUpperCase()) {
    case "PING":
      return "+PONG\r\n";
    case "RPUSH": {
      const list = lists.get(key) ?? [];
      if (list.length >= listLengthMax) return "-ERR list is full\r\n";
      lists.set(key, [...list, value]);
      return `:${list.length + 1}\r\n`;
    }
    case "LRANGE": {
      const list = lists.get(key) ?? [];
      return `*${list.length}\r\n${list.map((item) => `$${Buffer.byteLength(item)}\r\n${item}\r\n`).join("")}`;
    }
    default:
      return `-ERR unknown command '${verb}'\r\n`;
  }
}

/** Inline commands, one a line: `RPUSH guestbook hello`. */
const server = Bun.listen<{ pending: string }>({
  hostname: process.env["HOST"] ?? "0.0.0.0",
  port: Number(process.env["PORT"] ?? 6379),
  socket: {
    open(socket) {
      socket.data = { pending: "" };
    },
    data(socket, chunk) {
      const lines = (socket.data.pending + chunk.toString()).split("\r\n");
      socket.data.pending = lines.pop()!;
      for (const line of lines) {
        const [verb, key, ...rest] = line.split(" ");
        socket.write(answer([verb!, key ?? "", rest.join(" ")]));
      }
    },
  },
});
console.log(`store listens on ${server.port}`);
process.on("SIGTERM", () => process.exit(0));

export {};
