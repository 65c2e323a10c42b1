// Explanations of single requests, from manifests as a person would write them.
import { describe, expect, test } from "bun:test";
import { createContext } from "./context.ts";
import { explain } from "./explain.ts";
import { plain, render } from "./render.ts";
import { tokenOf } from "./tokens.ts";
import type { Explanation } from "./types.ts";
import { worldOfFiles } from "./world.ts";

const nowMs = Date.UTC(2026, 0, 1);
const workloads = `
apiVersion: v1
kind: Namespace
metadata: { name: shop, labels: { istio-injection: enabled } }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { selector: { app: web }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template: { metadata: { labels: { app: web, version: v1 } }, spec: { serviceAccountName: web, containers: [{ name: web, image: web }] } }
---
apiVersion: v1
kind: Pod
metadata: { name: client, namespace: shop }
spec: { serviceAccountName: client, containers: [{ name: client, image: client }] }
---
apiVersion: v1
kind: Pod
metadata: { name: stranger, namespace: default }
spec: { containers: [{ name: stranger, image: client }] }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: edge, namespace: shop }
spec: { selector: { istio: edge }, servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: [shop.test] }] }
`;
const routes = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web, namespace: shop }
spec:
  hosts: [shop.test]
  gateways: [edge]
  http:
    - name: beta
      match: [{ uri: { prefix: /cart }, headers: { x-group: { exact: beta } } }]
      route: [{ destination: { host: web, subset: v2 } }]
    - name: rest
      route: [{ destination: { host: web } }]
      fault: { abort: { httpStatus: 418, percentage: { value: 25 } } }
`;

type Options = { from?: string; headers?: [string, string][]; method?: string };

async function ask(
  url: string,
  yaml: string,
  { from, headers = [], method = "GET" }: Options = {},
): Promise<Explanation> {
  const files = [
    { file: "base.yaml", text: workloads },
    { file: "case.yaml", text: yaml },
  ];
  const context = createContext(worldOfFiles(files, nowMs));
  const found = await explain(context, { method, url, headers, ...(from !== undefined && { from }) });
  context.close();
  return found;
}
const statuses = ({ outcomes }: Explanation) => outcomes.map(({ percent, status, flag }) => [percent, status, flag]);

const registryOnly = `apiVersion: v1
kind: ConfigMap
metadata: { name: istio, namespace: istio-system }
data: { mesh: "outboundTrafficPolicy: { mode: REGISTRY_ONLY }" }
`;

describe("what nobody registered", () => {
  test("passes with ALLOW_ANY, and the text says by which setting", async () => {
    const found = await ask("http://free.example.com/", "", { from: "shop/client" });
    expect(render(found, plain).join("\n")).toContain("outboundTrafficPolicy ALLOW_ANY");
    expect(statuses(found)).toEqual([[100, undefined, "-"]]);
  });

  test("with REGISTRY_ONLY is 502 by HTTP and closed by TCP, and the reason names the setting", async () => {
    const http = await ask("http://free.example.com/", registryOnly, { from: "shop/client" });
    expect(statuses(http)).toEqual([[100, 502, "-"]]);
    const tcp = await ask("https://free.example.com/", registryOnly, { from: "shop/client" });
    expect(statuses(tcp)).toEqual([[100, 0, "UH"]]);
    for (const { outcomes } of [http, tcp]) expect(outcomes[0]!.reason).toContain("REGISTRY_ONLY");
    for (const found of [http, tcp]) expect(render(found, plain).join("\n")).not.toContain("ALLOW_ANY");
  });
});

describe("routes", () => {
  test("a skipped rule says which condition failed, with file and line, and the winner says why", async () => {
    const found = await ask("http://shop.test/", routes);
    const text = render(found, plain).join("\n");
    expect(text).toContain(
      'skipped  "beta": path begins with /cart, but path is /; x-group is beta, but x-group is missing  case.yaml:9',
    );
    expect(text).toContain('route  "rest" matches: any request  case.yaml:11');
    expect(found.route).toMatchObject({ name: "rest", object: "VirtualService shop/web", field: "spec.http[1]" });
  });

  test("an object given twice counts as given last, as when one file is applied after the other", async () => {
    const canary = routes.replace("name: rest", "name: renamed");
    const found = await ask("http://shop.test/", `${routes}---\n${canary}`);
    expect(found.route).toMatchObject({ name: "renamed" });
    expect(render(found, plain).join("\n")).toContain('route  "renamed" matches: any request  case.yaml:25');
  });

  test("a fault for some requests is one of the ways it may end, with its share", async () => {
    expect(statuses(await ask("http://shop.test/", routes))).toEqual([
      [75, undefined, "-"],
      [25, 418, "FI"],
    ]);
  });

  test("a subset that no DestinationRule defines is 503 NC; rules that come later are named as beaten", async () => {
    const found = await ask("http://shop.test/cart", routes, { headers: [["x-group", "beta"]] });
    expect(statuses(found)).toEqual([[100, 503, "NC"]]);
    expect(found.outcomes[0]!.reason).toContain('no subset "v2"');
    expect(render(found, plain).join("\n")).toContain('beaten  "rest" would match too');
  });

  test("a host that no route knows is 404 NR; a port that no gateway listens on is refused", async () => {
    expect(statuses(await ask("http://other.test/", routes))).toEqual([[100, 404, "NR"]]);
    expect(statuses(await ask("http://shop.test:444/", routes))).toEqual([[100, 0, "-"]]);
  });

  test("a VirtualService that is bound to a gateway only is said not to count for a pod", async () => {
    const found = await ask("http://web/", routes.replace("[shop.test]", "[web]"), { from: "client" });
    expect(render(found, plain).join("\n")).toContain("not used  VirtualService shop/web is bound to shop/edge only");
    expect(statuses(found)).toEqual([[100, undefined, "-"]]);
  });

  test("a match for other callers or another port is said not to count, with the condition", async () => {
    const own = routes
      .replace("[shop.test]", "[web]")
      .replace("[edge]", "[mesh]")
      .replace("uri: { prefix: /cart }", "port: 81, sourceLabels: { app: buyer }");
    const text = render(await ask("http://web/", own, { from: "client" }), plain).join("\n");
    expect(text).toContain(
      'not used  match 0 of "beta" is not for this caller: port 81, sourceLabels {"app":"buyer"}  case.yaml:9',
    );
  });

  test("Istio's default retries are said to be a default that nobody wrote", async () => {
    const found = await ask("http://shop.test/", routes);
    expect(found.route?.retries).toMatchObject({ attempts: 2, isDefault: true });
  });
});

describe("policies", () => {
  const deny = `${routes}---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: no-delete, namespace: shop }
spec:
  selector: { matchLabels: { app: web } }
  action: DENY
  rules: [{ to: [{ operation: { methods: [DELETE] } }] }]
`;
  test("the rule that refuses is named with its line", async () => {
    const found = await ask("http://web/", deny, { from: "client", method: "DELETE" });
    expect(statuses(found)).toEqual([[100, 403, "UAEX"]]);
    expect(found.deniedBy).toBe("DENY shop/no-delete rule 0");
    expect(found.outcomes[0]!.at).toBe("case.yaml:21");
  });
  test("a rule that does not match says which of its parts did not hold", async () => {
    const found = await ask("http://web/", deny, { from: "client" });
    expect(statuses(found)).toEqual([[100, undefined, "-"]]);
    expect(render(found, plain).join("\n")).toContain(
      "rule 0 does not match: to methods DELETE: the request is GET / to web",
    );
  });
  test("STRICT closes the way of a pod without sidecar, and of nobody else", async () => {
    const strict = `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: shop }
spec: { mtls: { mode: STRICT } }
`;
    expect(statuses(await ask("http://web/", strict, { from: "client" }))).toEqual([[100, undefined, "-"]]);
    const [outcome] = (await ask("http://web.shop/", strict, { from: "stranger" })).outcomes;
    expect(outcome).toMatchObject({ status: 0, reason: "PeerAuthentication STRICT: plain text is refused" });
  });
  test("a token by an issuer whose keys are elsewhere counts as signed; none, or one of another issuer, does not pass", async () => {
    const jwt = `apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: jwt, namespace: shop }
spec: { jwtRules: [{ issuer: me, jwksUri: "https://keys.test/jwks" }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: signed-in, namespace: shop }
spec: { selector: { matchLabels: { app: web } }, rules: [{ from: [{ source: { requestPrincipals: [me/alice] } }] }] }
`;
    const withToken = (iss: string) => ({
      from: "client",
      headers: [["authorization", `Bearer ${tokenOf({ iss, sub: "alice" }, nowMs)}`]] as [string, string][],
    });
    expect(statuses(await ask("http://web/", jwt, withToken("me")))).toEqual([[100, undefined, "-"]]);
    expect(statuses(await ask("http://web/", jwt, withToken("you")))).toEqual([[100, 401, "-"]]);
    expect(statuses(await ask("http://web/", jwt, { from: "client" }))).toEqual([[100, 403, "UAEX"]]);
  });
});

test("a Gateway of the Gateway API takes requests as if its controller had deployed it, and its HTTPRoute is named", async () => {
  const yaml = `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: front, namespace: shop }
spec: { gatewayClassName: istio, listeners: [{ name: http, port: 8081, protocol: HTTP }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: cart, namespace: shop }
spec:
  parentRefs: [{ name: front }]
  rules: [{ matches: [{ path: { type: PathPrefix, value: /cart } }], backendRefs: [{ name: web, port: 80 }] }]
`;
  const found = await ask("http://any.test:8081/cart", yaml);
  expect(statuses(found)).toEqual([[100, undefined, "-"]]);
  expect(found.outcomes[0]!.destination).toMatchObject({ host: "web.shop.svc.cluster.local", path: "/cart" });
  expect(found.route).toMatchObject({ object: "HTTPRoute shop/cart", at: "case.yaml:11" });
  expect(statuses(await ask("http://any.test:8081/carts", yaml))).toEqual([[100, 404, "NR"]]);
});

test("Gateways of Istio and of the Gateway API with one name are two objects with two places", () => {
  const gateway = (version: string, spec: string) =>
    `apiVersion: ${version}\nkind: Gateway\nmetadata: { name: edge, namespace: shop }\nspec: ${spec}\n`;
  const istio =
    "{ selector: { istio: edge }, servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: [shop.test] }] }";
  const kubernetes = "{ gatewayClassName: istio, listeners: [{ name: http, port: 8081, protocol: HTTP }] }";
  const text = `${gateway("networking.istio.io/v1", istio)}---\n${gateway("gateway.networking.k8s.io/v1", kubernetes)}`;
  const { objects, places } = worldOfFiles([{ file: "two.yaml", text }], nowMs);
  expect([...objects.gateways, ...objects.kubernetesGateways].map((each) => places.of(each))).toEqual([
    "two.yaml:1",
    "two.yaml:6",
  ]);
});

test("a DestinationRule that selects the caller is the one told of, for that caller alone", async () => {
  const rule = (name: string, more: string) => `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: ${name}, namespace: shop }
spec: { host: web.shop.svc.cluster.local${more} }
`;
  const rules = `${rule("general", "")}---
${rule("own", ", workloadSelector: { matchLabels: { app: buyer } }")}---
apiVersion: v1
kind: Pod
metadata: { name: buyer, namespace: shop, labels: { app: buyer } }
spec: { containers: [{ name: buyer, image: client }] }
`;
  const told = async (from: string) => render(await ask("http://web/", rules, { from }), plain).join("\n");
  expect(await told("buyer")).toContain("DestinationRule  shop/own");
  expect(await told("client")).toContain("DestinationRule  shop/general");
});

test("mistakes in the question are answered with what to do", async () => {
  await expect(ask("shop.test/", routes)).rejects.toThrow("the scheme (http:// or https://) is missing");
  await expect(ask("http://web/", routes, { from: "cleint" })).rejects.toThrow('no pod "cleint"');
});
