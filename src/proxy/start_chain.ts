// Puts the right speaker on an accepted (and, where asked, decrypted) connection: HTTP or TCP, after the chain's network filters.

import { alpnName } from "../wire/http2_frames.ts";
import type { OwnedSocket } from "../wire/socket.ts";
import type { ChainSlot, ConnectionInfo, Runtime } from "./chain.ts";
import { Http2ServerConnection } from "./http/h2_server.ts";
import { HttpServerConnection } from "./http/server.ts";
import { TcpSession } from "./tcp.ts";

/** `early`: bytes already read. `onClosed` is called once, whatever happens. */
export function startChain(
  socket: OwnedSocket,
  slot: ChainSlot,
  connection: ConnectionInfo,
  runtime: Runtime,
  early: Buffer | undefined,
  onClosed: () => void,
): void {
  const chain = slot.current;
  if (!chain || chain.networkFilters.some((filter) => filter.onConnection(connection) === "close")) {
    onClosed();
    socket.terminate();
    return;
  }
  const { counts } = chain;
  counts.connections++;
  const closed = (): void => {
    counts.connectionsClosed++;
    onClosed();
  };
  if (chain.kind === "tcp") {
    new TcpSession(socket, slot, chain, connection, runtime, early, closed);
    return;
  }
  const isHttp2 = chain.codec === "http2" || (chain.codec === "auto" && connection.session?.alpnProtocol === alpnName);
  const http = isHttp2
    ? new Http2ServerConnection(socket, slot, chain, connection, runtime, closed)
    : new HttpServerConnection(socket, slot, chain, connection, runtime, closed);
  if (early?.length) http.onData(early);
}
