// Streaming multipart/form-data parser (RFC 7578): bounded memory whatever the size of a part; never buffers a file.

export class MultipartError extends Error {
  override name = "MultipartError";
}

export interface Part {
  name: string;
  /** undefined: an ordinary field. */
  filename: string | undefined;
}

/** Receives a part's bytes. The next chunk is read only when the promise has resolved. */
export interface PartSink {
  write(chunk: Uint8Array): Promise<void> | void;
  end(): Promise<void> | void;
}

const headerBytesMax = 8 * 1024;
const partsMax = 64;

/** The boundary of a Content-Type header, undefined when it is not multipart/form-data. */
export function boundaryOf(contentType: string | null): string | undefined {
  const match = /^multipart\/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i.exec(
    contentType ?? "",
  );
  return match?.[1] ?? match?.[2];
}

/** Reads the whole body; `open` chooses where each part goes. Throws MultipartError on a malformed or cut-off body. */
export async function parseMultipart(
  body: AsyncIterable<Uint8Array>,
  boundary: string,
  open: (part: Part) => PartSink,
): Promise<void> {
  const delimiter = Buffer.from(`\r\n--${boundary}`);
  // A delimiter starts with a line break; the very first one has none before it.
  let pending: Buffer = Buffer.from("\r\n");
  let state: "data" | "delimiter" | "headers" | "end" = "data";
  let sink: PartSink | undefined;
  /** Bytes at the start of `pending` that are no data: the break after the headers, kept because an empty part's delimiter starts with it. */
  let skip = 0;
  let parts = 0;

  /** Passes on data up to the next delimiter; false when more bytes are needed. */
  async function takeData(): Promise<boolean> {
    const at = pending.indexOf(delimiter);
    const until = at >= 0 ? at : pending.length - delimiter.length + 1;
    if (until > skip) {
      await sink?.write(pending.subarray(skip, until));
      skip = 0;
      if (at < 0) pending = pending.subarray(until);
    }
    if (at < 0) return false;
    pending = pending.subarray(at + delimiter.length);
    skip = 0;
    await sink?.end();
    sink = undefined;
    state = "delimiter";
    return true;
  }

  /** One step; false when more bytes are needed. */
  async function step(): Promise<boolean> {
    if (state === "data") return takeData();
    if (state === "delimiter") {
      if (pending.length < 2) return false;
      const next = pending.subarray(0, 2).toString("latin1");
      if (next !== "--" && next !== "\r\n") throw new MultipartError("malformed boundary line");
      state = next === "--" ? "end" : "headers";
      pending = pending.subarray(2);
      return true;
    }
    if (state === "headers") {
      const end = pending.indexOf("\r\n\r\n");
      if (end > headerBytesMax || (end < 0 && pending.length > headerBytesMax)) {
        throw new MultipartError("part headers too long");
      }
      if (end < 0) return false;
      parts += 1;
      if (parts > partsMax) throw new MultipartError(`more than ${partsMax} parts`);
      sink = open(partOf(pending.subarray(0, end).toString("utf8")));
      pending = pending.subarray(end + 2);
      skip = 2;
      state = "data";
      return true;
    }
    // Whatever follows the closing delimiter is ignored (RFC 2046 §5.1.1).
    pending = Buffer.alloc(0);
    return false;
  }

  for await (const chunk of body) {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    pending = pending.length === 0 ? bytes : Buffer.concat([pending, bytes]);
    while (await step());
  }
  if ((state as string) !== "end") throw new MultipartError("the body ended early");
}

function partOf(headers: string): Part {
  const line = /^content-disposition\s*:\s*form-data\b(.*)$/im.exec(headers)?.[1];
  const name = line === undefined ? undefined : parameter(line, "name");
  if (line === undefined || name === undefined) throw new MultipartError("a part without a name");
  return { name, filename: parameter(line, "filename") };
}

/** Browsers percent-encode quotes and line breaks in names (HTML §4.10.21.8). */
function parameter(line: string, name: string): string | undefined {
  const value = new RegExp(`;\\s*${name}="([^"]*)"`, "i").exec(line)?.[1];
  return value?.replace(/%22/g, '"').replace(/%0D/gi, "\r").replace(/%0A/gi, "\n");
}
