// One request as matchers and filters see it, whatever the codec. Strings are cut out of the head only when somebody asks.

import { type Head, known } from "../../wire/http1_head.ts";
import type { HeaderEdits } from "../../wire/http1_write.ts";
import type { ConnectionInfo } from "../chain.ts";
import { fieldAfter } from "../log/stream_info.ts";
import {
  type EscapedSlashes,
  hasEscapedSlash,
  mayNeedNormalising,
  normalisePath,
  unescapeSlashes,
} from "../routing/path.ts";

/** What is cut off the Host field before it is matched and forwarded (strip_any_host_port, strip_matching_host_port, strip_trailing_host_dot). */
export interface HostRules {
  port: "keep" | "any" | "matching";
  trailingDot: boolean;
}

const grpcType = /^application\/grpc(?:$|[+;])/;
const hostForm = /^[A-Za-z0-9\-._~!$&'()*+,;=%]*(:\d*)?$|^\[[0-9A-Fa-f:.]+\](:\d*)?$/;

export class RequestView {
  head!: Head;
  method = "";
  /** Path and query, normalised; what is matched, authorized and forwarded. */
  path = "";
  /** True when `path` is not byte for byte the received target. */
  pathChanged = false;
  /** As received (Host field, or the target's authority). */
  authority = "";
  /** `authority` in lower case without its port. */
  host = "";
  scheme: "http" | "https" = "http";
  /** CONNECT: `authority` is the target, and there is no path. */
  isConnect = false;
  /** The client speaks HTTP/2; `head` is the same in the form of HTTP/1.1. */
  isHttp2 = false;
  /** The body comes without framing of its own (HTTP/2): its end is told. Its reads are shared with other streams. */
  isBare = false;
  /** A gRPC request, by its content type. */
  isGrpc = false;
  /** The client is to ask for `path` instead. */
  redirects = false;
  /** True when the Host field must be written anew: absolute-form, rewritten, or none was sent. */
  authorityChanged = false;
  /** The client's connection. */
  connection: ConnectionInfo | undefined;
  /** Dynamic metadata by filter name; undefined until a filter sets some. */
  metadata: Map<string, unknown> | undefined;
  /** Fields that filters have set or, where undefined, removed. */
  #overrides: Map<string, string | undefined> | undefined;
  /** Set once it is looked at as the next proxy gets it. */
  #sentWith: HeaderEdits | undefined;
  #lastAuthority = "";
  #lastHost = "";

  /** Before each request. */
  reset(connection: ConnectionInfo): void {
    this.connection = connection;
    this.metadata = undefined;
    this.isBare = false;
    this.isGrpc = false;
    this.#overrides = undefined;
    this.#sentWith = undefined;
  }

  /**
   * From now on as the next proxy would read it, which is in this very process: with what has been changed, its path normalised again
   * after a rewrite. False when that proxy would refuse it.
   */
  readAsSent(edits: HeaderEdits): boolean {
    this.#sentWith = edits;
    if (!this.pathChanged || !mayNeedNormalising(this.path)) return true;
    const normal = normalisePath(this.path);
    if (normal === undefined) return false;
    this.path = normal;
    return true;
  }

  /** As `other` stands now, on `head`, which holds the same bytes. */
  take(other: RequestView, head: Head): void {
    this.head = head;
    this.scheme = other.scheme;
    this.method = other.method;
    this.isConnect = other.isConnect;
    this.path = other.path;
    this.pathChanged = other.pathChanged;
    this.authority = other.authority;
    this.host = other.host;
    this.authorityChanged = other.authorityChanged;
    this.isHttp2 = other.isHttp2;
    this.isBare = other.isBare;
  }

  /** Takes over a scanned head. False when the request must be refused with 400 (RFC 9112 §3.2). */
  read(head: Head, scheme: "http" | "https", slashes: EscapedSlashes = "keep"): boolean {
    this.head = head;
    this.scheme = scheme;
    this.method = head.method();
    this.redirects = false;
    this.isGrpc = this.has(known.contentType) && grpcType.test(this.knownHeader(known.contentType)!);
    this.isConnect = this.method === "CONNECT";
    if (this.isConnect) return this.#readConnect(head);
    let path = head.target();
    let authority: string | undefined;
    if (head.hostIndex >= 0) authority = head.value(head.hostIndex);
    else if (head.minor === 1) return false;
    this.pathChanged = false;
    this.authorityChanged = authority === undefined;
    if (path.charCodeAt(0) !== 47) {
      if (path === "*") {
        if (this.method !== "OPTIONS") return false;
      } else {
        const absolute = /^https?:\/\/([^/?]+)(\/[^?]*)?(\?.*)?$/i.exec(path);
        if (!absolute) return false;
        authority = absolute[1]!;
        // RFC 9112 §3.2.4: OPTIONS for a whole server.
        const whole = this.method === "OPTIONS" && absolute[2] === undefined && absolute[3] === undefined;
        path = whole ? "*" : `${absolute[2] ?? "/"}${absolute[3] ?? ""}`;
        this.pathChanged = true;
        this.authorityChanged = true;
      }
    }
    if (slashes !== "keep" && hasEscapedSlash(path)) {
      if (slashes === "reject") return false;
      path = unescapeSlashes(path);
      this.pathChanged = true;
      this.redirects = slashes === "redirect";
    }
    if (mayNeedNormalising(path)) {
      const normal = normalisePath(path);
      if (normal === undefined) return false;
      if (normal !== path) {
        path = normal;
        this.pathChanged = true;
      }
    }
    this.path = path;
    return this.#setAuthority(authority ?? "");
  }

  /** Authority-form (RFC 9112 §3.2.3): the target decides, whatever the Host field says. No path, and never a body. */
  #readConnect(head: Head): boolean {
    const target = head.target();
    if (!/[^:]:\d{1,5}$/.test(target) || head.chunked || head.contentLength > 0) return false;
    if (head.hostIndex < 0 && head.minor === 1) return false;
    this.path = "";
    this.pathChanged = true;
    this.authorityChanged = true;
    return this.#setAuthority(target);
  }

  stripHost(rules: HostRules, localPort: number): void {
    if (this.isConnect) return;
    const colon = this.authority.search(/:\d*$/);
    const port = colon < 0 ? "" : this.authority.slice(colon);
    let name = colon < 0 ? this.authority : this.authority.slice(0, colon);
    if (rules.trailingDot && name.endsWith(".")) {
      name = name.slice(0, -1);
      this.host = name.toLowerCase();
    }
    const strips = rules.port === "any" || (rules.port === "matching" && port === `:${localPort}`);
    const authority = strips ? name : name + port;
    if (authority !== this.authority) this.rewriteAuthority(authority);
  }

  #setAuthority(authority: string): boolean {
    this.authority = authority;
    // Keep-alive clients repeat their host: lower-casing and port removal are remembered.
    if (authority !== this.#lastAuthority) {
      if (!hostForm.test(authority)) return false;
      this.#lastAuthority = authority;
      this.#lastHost = authority.toLowerCase().replace(/:\d*$/, "");
    }
    this.host = this.#lastHost;
    return true;
  }

  rewritePath(path: string): void {
    this.path = path;
    this.pathChanged = true;
  }
  rewriteAuthority(authority: string): void {
    this.authority = authority;
    this.authorityChanged = true;
  }

  /** What matchers see from now on instead of the received field. */
  override(name: string, value: string | undefined): void {
    this.#overrides ??= new Map();
    this.#overrides.set(name, value);
  }

  /** A field by its lower-case name, or a pseudo header (":path", ":method", ":authority", ":scheme"). */
  header(name: string): string | undefined {
    if (name.charCodeAt(0) !== 58) {
      if (this.#sentWith !== undefined) return fieldAfter(this.head, this.#sentWith, name);
      const overrides = this.#overrides;
      return overrides?.has(name) ? overrides.get(name) : this.head.get(name);
    }
    switch (name) {
      case ":path":
        return this.path;
      case ":method":
        return this.method;
      case ":authority":
        return this.authority;
      case ":scheme":
        return this.scheme;
      default:
        return undefined;
    }
  }

  /** A field the scanner knows by id; cheaper than by name. */
  knownHeader(id: number): string | undefined {
    if (!this.has(id)) return undefined;
    const { ids, count } = this.head;
    for (let i = 0; i < count; i++) if (ids[i] === id) return this.head.value(i);
    return undefined;
  }
  has(id: number): boolean {
    return (this.head.mask & (1 << id)) !== 0;
  }
  get requestId(): string {
    return this.knownHeader(known.xRequestId) ?? "";
  }

  /** As logs name it. */
  get protocol(): string {
    return this.isHttp2 ? "HTTP/2" : `HTTP/1.${this.head.minor}`;
  }

  /** Path without query. */
  get pathOnly(): string {
    const question = this.path.indexOf("?");
    return question < 0 ? this.path : this.path.slice(0, question);
  }

  /** Value of a query parameter, decoded; undefined when absent. */
  query(name: string): string | undefined {
    const question = this.path.indexOf("?");
    if (question < 0) return undefined;
    return new URLSearchParams(this.path.slice(question + 1)).get(name) ?? undefined;
  }
}
