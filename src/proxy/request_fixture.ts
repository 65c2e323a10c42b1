// Requests for tests of pure decisions, read from bytes as the proxy reads them. Nothing at run time imports it.

import { Head, scanRequestHead } from "../wire/http1_head.ts";
import type { ConnectionInfo } from "./chain.ts";
import { unknownWorkload } from "./clusters/cluster.ts";
import { RequestView } from "./http/request.ts";

export const plainConnection: ConnectionInfo = {
  remoteAddress: "10.0.0.9",
  remotePort: 1,
  localAddress: "10.0.0.2",
  localPort: 80,
  secure: false,
  serverName: "",
  peer: { identity: unknownWorkload, authenticated: false },
};

/** `fields` may also say `method` and `host`. A name with several values is a field for each. Throws for what the proxy would refuse. */
export function requestOf(
  target: string,
  fields: Readonly<Record<string, string | readonly string[]>> = {},
  more: Partial<ConnectionInfo> = {},
): RequestView {
  const { method = "GET", host = "shop.test:8080", ...others } = fields;
  const lines = Object.entries(others).flatMap(([name, values]) =>
    [values].flat().map((value) => `${name}: ${value}\r\n`),
  );
  const bytes = Buffer.from(`${method} ${target} HTTP/1.1\r\nhost: ${host}\r\n${lines.join("")}\r\n`, "latin1");
  const head = new Head();
  const request = new RequestView();
  request.reset({ ...plainConnection, ...more });
  if (
    scanRequestHead(head, bytes, 0, bytes.length) !== bytes.length ||
    !request.read(head, more.secure ? "https" : "http")
  )
    throw new Error(`not a request: ${bytes}`);
  return request;
}
