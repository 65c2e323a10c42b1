// The answer as response filters see it, and the transform of its body when one asked for it.

import type { Framing } from "../../wire/http1_body.ts";
import { type Head, known } from "../../wire/http1_head.ts";
import { type HeaderEdits, removeHeader } from "../../wire/http1_write.ts";
import type { BodySink, BodyTransform, Filter, FilterRequest, FilterResponse } from "../filter.ts";
import type { HeaderRules } from "../routing/route.ts";
import { addRules } from "./headers.ts";

export class ResponseView implements FilterResponse {
  status = 0;
  framing: Framing | "local" = "local";
  transform: BodyTransform | undefined;
  readonly #sink: BodySink;
  readonly #edits: HeaderEdits;
  #head: Head | undefined;
  #request: FilterRequest | undefined;

  constructor(edits: HeaderEdits, sink: BodySink) {
    this.#edits = edits;
    this.#sink = sink;
  }

  /** Runs the filters over an answer's head; the head is not kept. */
  filter(
    status: number,
    head: Head | undefined,
    framing: Framing | "local",
    filters: readonly Filter[],
    request: FilterRequest,
  ): void {
    this.status = status;
    this.framing = framing;
    this.#head = head;
    this.#request = request;
    const off = request.route?.filtersOff;
    for (let i = 0; i < filters.length; i++) if (!off?.has(filters[i]!.name)) filters[i]!.onResponse!(request, this);
    this.#head = undefined;
    this.#request = undefined;
  }

  header(name: string): string | undefined {
    return this.#head?.get(name);
  }
  removeHeader(name: string): void {
    removeHeader(this.#edits, name);
  }
  addHeader(line: string): void {
    this.#edits.added += line;
  }
  applyRules(rules: HeaderRules): void {
    addRules(this.#edits, rules, this.#head, this.#request!);
  }
  transformBody(make: (sink: BodySink) => BodyTransform): boolean {
    if (this.transform !== undefined || this.framing === "none" || this.framing === "local") return false;
    this.#edits.dropIds[known.contentLength] = 1;
    this.transform = make(this.#sink);
    return true;
  }
}
