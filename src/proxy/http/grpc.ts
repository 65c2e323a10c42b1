// What gRPC makes of HTTP: the status of an answer that is none of its own, and answers made here in its form.

/** As gRPC's "HTTP to gRPC Status Code Mapping", which Envoy follows. */
const statuses: Readonly<Record<number, number>> = {
  400: 13,
  401: 16,
  403: 7,
  404: 12,
  429: 14,
  502: 14,
  503: 14,
  504: 14,
};
const unknown = 2;

export const grpcStatusOf = (status: number): number => statuses[status] ?? unknown;

/** Header lines of an answer without messages ("trailers-only"). `headers`: the answer's own; one with a status of its own keeps it. */
export function grpcReply(status: number, message: string, headers: string): string {
  if (/^grpc-status:/m.test(headers)) return "";
  const text = message === "" ? "" : `grpc-message: ${encodeMessage(message)}\r\n`;
  return `content-type: application/grpc\r\ngrpc-status: ${grpcStatusOf(status)}\r\n${text}`;
}

/** Percent-encoding of what is not printable ASCII, and of "%" itself. */
const encodeMessage = (message: string): string =>
  [...Buffer.from(message)]
    .map((c) =>
      c >= 0x20 && c <= 0x7e && c !== 0x25
        ? String.fromCharCode(c)
        : `%${c.toString(16).toUpperCase().padStart(2, "0")}`,
    )
    .join("");
