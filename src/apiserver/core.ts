// The request core: one request in, one answer out, whether it came over HTTPS or from inside the process.

import type { Metrics } from "../kernel/metrics.ts";
import { authorizeCertificateHolders } from "./authorization.ts";
import { ApiFailure, badRequest, methodNotAllowed, statusOf, unknownResource } from "./failure.ts";
import { parsePath, type Target } from "./path.ts";
import { answerPath } from "./paths.ts";
import { handleSubresource } from "./subresources.ts";
import type { Answer, Attributes, Authorize, CoreDeps, CoreRequest, KubeletAccess, User, Verb } from "./types.ts";
import { handleResource } from "./verbs.ts";
import { isTrue } from "./watch.ts";

export interface Core {
  /** Never throws: a refusal is an answer. */
  handle(request: CoreRequest): Promise<Answer>;
}

export interface CoreOptions {
  kubelets: KubeletAccess;
  metrics: Metrics;
  /** host:port, as discovery tells it. */
  serverAddress: string;
  authorize?: Authorize;
}

type ResourceTarget = Extract<Target, { kind: "resource" }>;

export function createCore(deps: CoreDeps, options: CoreOptions): Core {
  const authorize = options.authorize ?? authorizeCertificateHolders;

  async function answer(request: CoreRequest): Promise<Answer> {
    const target = parsePath(request.path);
    const verb = verbOf(request, target);
    check(authorize, request.user, attributesOf(target, verb));
    if (target.kind === "path") return answerPath(request, { ...options, kinds: deps.kinds.all });
    const kind = deps.kinds.find(target.group, target.version, target.plural);
    if (kind === undefined) throw unknownResource();
    const { namespace, name, subresource, version } = target;
    if (namespace !== undefined && !kind.namespaced) throw unknownResource();
    const needsNamespace = kind.namespaced && namespace === undefined;
    if (needsNamespace && name !== undefined) throw unknownResource();
    if (needsNamespace && verb !== "list" && verb !== "watch") throw methodNotAllowed();
    const dryRun = dryRunOf(request);
    const asked = { request, verb, kind, version, namespace, name, subresource, dryRun };
    return subresource === undefined ? handleResource(deps, asked) : handleSubresource(deps, options.kubelets, asked);
  }

  return {
    async handle(request) {
      try {
        return await answer(request);
      } catch (error) {
        const status = statusOf(error);
        if (status.code === 500)
          deps.log.error("request failed", {
            method: request.method,
            path: request.path,
            error: error instanceof Error ? error.stack : String(error),
          });
        return { kind: "json", status: status.code, body: status, warnings: [] };
      }
    },
  };
}

function verbOf({ method, query }: CoreRequest, target: Target): Verb {
  if (target.kind === "path") return method.toLowerCase() as Verb;
  const named = target.name !== undefined;
  switch (method) {
    case "GET":
    case "HEAD":
      if (target.subresource === undefined && isTrue(query["watch"])) return "watch";
      return named ? "get" : "list";
    case "POST":
      if (named && target.subresource === undefined) throw methodNotAllowed();
      return "create";
    case "PUT":
      if (!named) throw methodNotAllowed();
      return "update";
    case "PATCH":
      if (!named) throw methodNotAllowed();
      return "patch";
    case "DELETE":
      return named ? "delete" : "deletecollection";
    default:
      throw methodNotAllowed();
  }
}

function attributesOf(target: Target, verb: Verb): Attributes {
  if (target.kind === "path") return { kind: "path", verb, path: target.path };
  const { group, version, plural, subresource, namespace, name } = target satisfies ResourceTarget;
  return { kind: "resource", verb, group, version, resource: plural, subresource, namespace, name };
}

function check(authorize: Authorize, user: User, attributes: Attributes): void {
  const decision = authorize(user, attributes);
  if (decision.allowed) return;
  const subject =
    attributes.kind === "path"
      ? ""
      : `${attributes.resource}${attributes.group === "" ? "" : `.${attributes.group}`}${attributes.name ? ` "${attributes.name}"` : ""} is `;
  throw new ApiFailure(403, "Forbidden", `${subject}forbidden: ${decision.reason}`, {
    ...(attributes.kind === "resource" && { kind: attributes.resource }),
  });
}

function dryRunOf({ query }: CoreRequest): boolean {
  const text = query["dryRun"];
  if (text === undefined || text === "") return false;
  if (text !== "All") throw badRequest(`dryRun: Unsupported value: "${text}": supported values: "All"`);
  return true;
}
