import { expect, test } from "bun:test";
import { RequestView } from "../proxy/http/request.ts";
import { compileLogFilter } from "../proxy/log/access_log_filter.ts";
import { noNeeds, type StreamInfo } from "../proxy/log/stream_info.ts";
import { Head, scanRequestHead } from "../wire/http1_head.ts";
import { logFilterOf } from "./translate-log-filter.ts";

/** What the proxy makes of the filter, asked about `GET /shop/cart?id=7` with x-user: jane, answered with `status`. */
function logs(expression: string, status = 200): boolean | undefined {
  const filter = logFilterOf(expression);
  if (filter === undefined) return undefined;
  const bytes = Buffer.from("GET /shop/cart?id=7 HTTP/1.1\r\nhost: shop.example\r\nx-user: jane\r\n\r\n");
  const head = new Head();
  scanRequestHead(head, bytes, 0, bytes.length);
  const request = new RequestView();
  request.read(head, "http");
  const test = compileLogFilter(filter, { next: () => 0 } as never, noNeeds(), "test");
  return test({ request, status } as unknown as StreamInfo);
}

test("comparisons of the status, put together by and, or, not and parentheses", () => {
  expect([logs("response.code >= 400", 400), logs("response.code >= 400", 399)]).toEqual([true, false]);
  expect([logs("response.code != 200", 200), logs("response.code != 200", 201)]).toEqual([false, true]);
  expect([logs("response.code>499||response.code<200", 500), logs("response.code > 499", 499)]).toEqual([true, false]);
  const between = "response.code >= 300 && !(response.code >= 400 || response.code == 304)";
  expect([302, 304, 404, 200].map((status) => logs(between, status))).toEqual([true, false, false, false]);
});

test("the request's method, host, path and fields compared and searched", () => {
  const holds = [
    "request.method == 'GET'",
    'request.host == "shop.example"',
    "request.url_path == '/shop/cart'",
    "request.path == '/shop/cart?id=7'",
    "request.url_path.startsWith('/shop')",
    "request.url_path.endsWith('/cart')",
    "request.url_path.contains('p/c')",
    "request.url_path.matches('^/shop/c.+')",
    "request.headers['X-User'] == 'jane'",
    "'x-user' in request.headers",
    "request.headers['x-other'] != 'jane'",
    "!request.headers['x-user'].startsWith('j') || request.method != 'PUT'",
  ];
  expect(holds.map((expression) => [expression, logs(expression)])).toEqual(
    holds.map((expression) => [expression, true]),
  );
  const fails = [
    "request.method == 'get'",
    "request.url_path == '/shop'",
    "request.url_path.endsWith('id=7')",
    "request.url_path.contains('id')",
    "request.path.startsWith('shop')",
    "request.headers['x-other'] == 'jane'",
    "'x-other' in request.headers",
    "!('x-user' in request.headers)",
  ];
  expect(fails.map((expression) => [expression, logs(expression)])).toEqual(
    fails.map((expression) => [expression, false]),
  );
});

test("anything else is not understood, so everything is logged", () => {
  for (const expression of [
    "has(request.id)",
    "response.code >= 400 &&",
    "response.code >= 400 response.code",
    "(response.code >= 400",
    "request.headers['x'] == 7",
    "connection.mtls",
    "",
    "response.code >= 400 || ".repeat(1_000),
  ])
    expect(logs(expression)).toBeUndefined();
});
