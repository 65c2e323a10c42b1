// The proxy's admin server, as Envoy's: finds the page and the workload, refuses what is not allowed. Pages are in admin/pages.ts.

import { type AdminView, type Ask, BadRequest, helpText, type Page, pages, text } from "./pages.ts";

export interface Admin {
  readonly port: number;
  stop(): Promise<void>;
}

const byPath = new Map(pages.map((page) => [page.path, page]));

/** Why this request may not run this page; undefined: it may. */
function refusal(request: Request, page: Page, view: AdminView): Response | undefined {
  const { method } = request;
  if (page.changes === undefined)
    return method === "GET" || method === "HEAD" ? undefined : notAllowed("GET", `${page.path} only reads: use GET\n`);
  if (method !== "POST") return notAllowed("POST", `${page.path} changes the proxy: use POST\n`);
  // Whoever reaches the admin port of a mesh's proxy (any pod) must not be able to stop it.
  if (view.settings.standalone === undefined)
    return text("this proxy belongs to a mesh: its control plane changes it, its admin pages only read\n", 403);
  // A web page elsewhere can send a POST with the visitor's browser.
  const origin = request.headers.get("origin");
  if (origin !== null && URL.parse(origin)?.host !== request.headers.get("host"))
    return text("a page of another origin may not change the proxy\n", 403);
  return undefined;
}

function notAllowed(allow: string, body: string): Response {
  const response = text(body, 405);
  response.headers.set("allow", allow);
  return response;
}

async function answer(request: Request, view: AdminView): Promise<Response> {
  const url = new URL(request.url);
  const page = byPath.get(url.pathname);
  if (page === undefined) return text(`invalid path. ${helpText()}`, 404);
  const refused = refusal(request, page, view);
  if (refused) return refused;
  const nodes = view.nodes();
  const wanted = url.searchParams.get("workload");
  const chosen = wanted === null ? nodes[0] : nodes.find(({ name, node }) => name === wanted || node.nodeId === wanted);
  if (!chosen) return text(`no workload ${wanted} here; /workloads lists them\n`, 404);
  const accept = request.headers.get("accept") ?? "";
  const ask: Ask = { view, query: url.searchParams, accept, ...chosen };
  try {
    return await page.answer(ask);
  } catch (error) {
    if (error instanceof BadRequest) return text(error.message, 400);
    throw error;
  }
}

/** Throws when it cannot listen. */
export function startAdmin(view: AdminView): Admin {
  const { host, port } = view.settings;
  const server = Bun.serve({ hostname: host, port, reusePort: true, fetch: (request) => answer(request, view) });
  return { port: server.port!, stop: () => server.stop(true) };
}
