// The admin server's front page: state at a glance, a link or a button for every page. Plain HTML, no script.

import type { XdsNode } from "../xds_node.ts";
import type { AdminView, Page } from "./pages.ts";

const escapes: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escapeHtml = (value: string): string => value.replace(/[&<>"]/g, (char) => escapes[char]!);

/** "1d 2h", "3h 4m", "5m 6s", "7s". */
function duration(seconds: number): string {
  const units: [string, number][] = [
    ["d", 86_400],
    ["h", 3600],
    ["m", 60],
    ["s", 1],
  ];
  const parts = units.flatMap(([unit, size], index) => {
    const count = Math.floor((index === 0 ? seconds : seconds % units[index - 1]![1]) / size);
    return count > 0 ? [`${count}${unit}`] : [];
  });
  return parts.slice(0, 2).join(" ") || "0s";
}

const number = (value: number): string => value.toLocaleString("en").replaceAll(",", " ");

interface Chosen {
  name: string;
  node: XdsNode;
}

export function indexPage(view: AdminView, pages: readonly Page[], chosen: Chosen, uptimeS: number): Response {
  const state = view.state();
  const nodes = view.nodes();
  const select = nodes[0]?.name === chosen.name ? "" : `?workload=${encodeURIComponent(chosen.name)}`;
  const row = (page: Page): string => {
    const action = page.changes
      ? `<form method="post" action="${page.path}"><button>${page.path}</button></form>`
      : `<a href="${page.path}${select}">${page.path}</a>`;
    return `<tr><td>${action}</td><td>${escapeHtml(page.help)}${page.query ? ` <code>${escapeHtml(page.query)}</code>` : ""}</td></tr>`;
  };
  const reads = pages.filter(({ path, changes }) => !changes && path !== "/");
  const changes = view.settings.standalone ? pages.filter((page) => page.changes) : [];
  const body = `<header><h1>meshbed proxy</h1><span class="state ${state.toLowerCase()}">${state}</span>
<p>${escapeHtml(chosen.node.nodeId)}</p></header>
<dl>${figures(view, chosen.node, uptimeS)
    .map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`)
    .join("")}</dl>
${nodes.length > 1 ? workloads(nodes, chosen.name) : ""}
<h2>Look</h2><table>${reads.map(row).join("\n")}</table>
${changes.length > 0 ? `<h2>Change</h2><table>${changes.map(row).join("\n")}</table>` : ""}`;
  const html = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>meshbed proxy</title><link rel="icon" href="data:,"><style>${style}</style><main>${body}</main></html>`;
  return new Response(html, { headers: { "content-type": "text/html; charset=utf-8", "cache-control": "no-store" } });
}

function figures(view: AdminView, node: XdsNode, uptimeS: number): [string, string][] {
  const requests = [...node.downstream.values()].reduce((sum, counts) => sum + counts.requests, 0);
  const open = [...node.downstream.values()].reduce(
    (sum, counts) => sum + counts.connections - counts.connectionsClosed,
    0,
  );
  const slots = [...node.clusters.values()].filter(({ current }) => current);
  const endpoints = slots.flatMap(({ all }) => [...all]);
  const healthy = endpoints.filter((endpoint) => endpoint.healthy).length;
  return [
    ["up for", duration(uptimeS)],
    ["requests", number(requests)],
    ["connections", number(open)],
    ["listeners", number(view.listeners(node).length)],
    ["clusters", number(slots.length)],
    ["healthy endpoints", `${number(healthy)} <small>of ${number(endpoints.length)}</small>`],
    ["memory", `${number(Math.round(process.memoryUsage().rss / 1e6))} <small>MB</small>`],
  ];
}

function workloads(nodes: readonly Chosen[], current: string): string {
  const item = ({ name, node }: Chosen): string =>
    `<a class="${node.isReady ? "" : "waiting"}" ${name === current ? 'aria-current="page"' : ""} href="/?workload=${encodeURIComponent(name)}">${escapeHtml(name)}</a>`;
  return `<h2>Workloads in this process</h2><nav>${nodes.map(item).join("")}</nav>`;
}

const style = `
:root{color-scheme:light dark;--ink:#1c2330;--soft:#5d6778;--line:#dfe3ea;--paper:#f6f7f9;--card:#fff;--link:#1257b8;--good:#147a4c;--warn:#a15c00}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--line:#2c3340;--paper:#12161d;--card:#1a202a;--link:#7db4ff;--good:#4cc38a;--warn:#f0b35a}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
header{display:flex;flex-wrap:wrap;align-items:center;gap:.25rem .9rem}
h1{font-size:1.6rem;margin:0;letter-spacing:-.01em}
header p{flex-basis:100%;margin:0;color:var(--soft);overflow-wrap:anywhere}
.state{font-size:.8rem;font-weight:600;padding:.15rem .6rem;border-radius:1rem;border:1px solid;color:var(--warn)}
.state.live{color:var(--good)}
dl{display:flex;flex-wrap:wrap;gap:1px;margin:1.5rem 0;background:var(--line);border:1px solid var(--line);border-radius:.6rem;overflow:hidden}
dl div{flex:1 0 auto;min-width:6.5rem;background:var(--card);padding:.7rem .9rem}
dt{color:var(--soft);font-size:.8rem;white-space:nowrap}
dd{margin:0;font-size:1.3rem;font-weight:600;font-variant-numeric:tabular-nums}
small{font-size:.8rem;font-weight:400;color:var(--soft)}
h2{font-size:1rem;margin:2rem 0 .5rem}
table{width:100%;border-collapse:separate;border-spacing:0;background:var(--card);border:1px solid var(--line);border-radius:.6rem}
td{padding:.45rem .9rem;border-top:1px solid var(--line);vertical-align:baseline}
tr:first-child td{border-top:0}
td:first-child{width:13rem;white-space:nowrap}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
code{color:var(--soft);font-size:.85em;overflow-wrap:anywhere}
form{margin:0}
button{font:inherit;color:var(--ink);background:none;border:1px solid var(--line);border-radius:.4rem;padding:.1rem .6rem;cursor:pointer}
button:hover{border-color:var(--soft)}
nav{display:flex;flex-wrap:wrap;gap:.4rem}
nav a{padding:.15rem .65rem;background:var(--card);border:1px solid var(--line);border-radius:1rem;font-size:.9rem}
nav a[aria-current]{border-color:var(--link);font-weight:600}
nav a.waiting{color:var(--warn)}
:focus-visible{outline:2px solid var(--link);outline-offset:2px}
@media(max-width:36rem){td{display:block;width:auto!important;border-top:0;padding:.1rem .9rem}tr td:first-child{padding-top:.6rem}tr td:last-child{padding-bottom:.6rem;border-bottom:1px solid var(--line)}}
`;
