// A testbed for security policies: one server, clients in and outside the mesh on its node and on another, all sending what they are told.

import type { Answer, Order } from "./echo.ts";
import { startTestbed, type Testbed, until } from "./testbed.ts";

/** "namespace/pod". Pods `near` run on the server's node, `far` on another; namespace outside is not in the mesh. */
export type Client = "sec/near" | "sec/far" | "other/near" | "other/far" | "outside/near" | "outside/far";
export const clients: readonly Client[] = [
  "sec/near",
  "sec/far",
  "other/near",
  "other/far",
  "outside/near",
  "outside/far",
];
export const insiders = clients.filter((client) => !client.startsWith("outside/"));
export const outsiders = clients.filter((client) => client.startsWith("outside/"));

export interface SecurityBed extends Testbed {
  serverIp: string;
  /** Cluster IP of the server's service; its ports are 80 (HTTP) and 9000 (TCP). */
  serviceIp: string;
  /** Node ports of the two. */
  nodePorts: { http: number; tcp: number };
  /** Sent by a client's pod. */
  from(client: Client, order: Order): Promise<Answer>;
  /** The status a client gets; 0: it was not let in. */
  status(client: Client, order?: Partial<Order>): Promise<number>;
  /** Whether the server's TCP port hears a client. */
  heard(client: Client, url?: string): Promise<boolean>;
  /** By the gateway. */
  get(path: string, headers?: Record<string, string>): Promise<Response>;
  object(kind: string, name: string, spec: object, more?: { namespace?: string; annotations?: object }): Promise<void>;
  remove(kind: string, name: string, namespace?: string): Promise<void>;
  /** MeshConfig. */
  settings(mesh: object): Promise<void>;
  /** Until each client gets what is expected, and for a while on. */
  settle(expected: Partial<Record<Client, number>>, order?: Partial<Order>): Promise<void>;
}

export const effectMs = 8_000;
export const serverUrl = "http://server.sec/";
/** For `selector`: the server alone. */
export const server = { selector: { matchLabels: { app: "server" } } };
export const trust = "cluster.local";
export const principal = (client: Client | "gateway"): string => {
  if (client === "gateway") return `${trust}/ns/istio-system/sa/istio-ingressgateway`;
  const [namespace, name] = client.split("/");
  return `${trust}/ns/${namespace}/sa/${name}`;
};

const versions: Readonly<Record<string, string>> = {
  Service: "v1",
  Pod: "v1",
  ConfigMap: "v1",
  Secret: "v1",
  Namespace: "v1",
  ServiceAccount: "v1",
  VirtualService: "networking.istio.io/v1",
  DestinationRule: "networking.istio.io/v1",
  Gateway: "networking.istio.io/v1",
};

const item = (kind: string, namespace: string | undefined, name: string, more: object) => ({
  apiVersion: versions[kind] ?? "security.istio.io/v1",
  kind,
  metadata: { name, ...(namespace && { namespace }) },
  ...more,
});

function pod(namespace: string, name: string, node: string, tcp = false): object[] {
  const ports = tcp ? [8080, 9000] : [8080];
  return [
    item("ServiceAccount", namespace, name, {}),
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace, labels: { app: name } },
      spec: {
        nodeName: node,
        serviceAccountName: name,
        containers: [
          {
            name: "echo",
            image: "meshbed/echo",
            env: tcp ? [{ name: "TCP_PORT", value: "9000" }] : [],
            ports: ports.map((containerPort) => ({ containerPort })),
            readinessProbe: { httpGet: { path: "/healthz", port: 8080 }, periodSeconds: 1 },
          },
        ],
      },
    },
  ];
}

/** The clients' orders come by the gateway; the server is reached there as `server.test`. */
function manifests(): object[] {
  const hosts = clients.map((client) => client.split("/") as [string, string]);
  const routes = hosts.map(([namespace, name]) => ({
    match: [{ authority: { prefix: `${name}.${namespace}.test` } }],
    retries: { attempts: 0 },
    route: [{ destination: { host: `${name}.${namespace}.svc.cluster.local` } }],
  }));
  return [
    ...["sec", "other"].map((name) => ({
      ...item("Namespace", undefined, name, {}),
      metadata: { name, labels: { "istio-injection": "enabled" } },
    })),
    item("Namespace", undefined, "outside", {}),
    ...pod("sec", "server", "worker1", true),
    ...hosts.flatMap(([namespace, name]) => pod(namespace, name, name === "near" ? "worker1" : "worker2")),
    ...hosts.map(([namespace, name]) =>
      item("Service", namespace, name, {
        spec: { selector: { app: name }, ports: [{ name: "http", port: 80, targetPort: 8080 }] },
      }),
    ),
    item("Service", "sec", "server", {
      spec: {
        type: "NodePort",
        selector: { app: "server" },
        ports: [
          { name: "http", port: 80, targetPort: 8080 },
          { name: "tcp", port: 9000, targetPort: 9000 },
        ],
      },
    }),
    item("Gateway", "sec", "test", {
      spec: {
        selector: { istio: "ingressgateway" },
        servers: [{ port: { number: 80, name: "http", protocol: "HTTP" }, hosts: ["*.test"] }],
      },
    }),
    item("VirtualService", "sec", "test", {
      spec: {
        hosts: ["*.test"],
        gateways: ["test"],
        http: [...routes, { route: [{ destination: { host: "server", port: { number: 80 } } }] }],
      },
    }),
  ];
}

export async function startSecurityBed(args: string[] = []): Promise<SecurityBed> {
  const testbed = await startTestbed({ args });
  const { apply, kubectl } = testbed;
  const read = async (...words: string[]) => JSON.parse(await kubectl("get", ...words, "-o", "json"));
  await apply(JSON.stringify({ apiVersion: "v1", kind: "List", items: manifests() }));
  await until("all pods are ready", 20_000, async () => {
    const { items } = await read("pods", "-A");
    return items.every(({ status }: { status: { containerStatuses?: { ready: boolean }[] } }) =>
      status.containerStatuses?.every(({ ready }) => ready),
    );
  });
  const { status } = await read("pod", "server", "-n", "sec");
  const { spec } = await read("service", "server", "-n", "sec");
  const from: SecurityBed["from"] = async (client, order) => {
    const [namespace, name] = client.split("/");
    const response = await fetch(`${testbed.url}/forward`, {
      method: "POST",
      headers: { host: `${name}.${namespace}.test` },
      body: JSON.stringify({ timeoutMs: 2_000, ...order }),
    });
    const text = await response.text();
    if (response.status !== 200) throw new Error(`${client}: ${response.status} ${text}`);
    const [answer] = JSON.parse(text) as Answer[];
    return answer!;
  };
  const get: SecurityBed["get"] = (path, headers = {}) =>
    fetch(testbed.url + path, { headers: { host: "server.test", ...headers }, redirect: "manual" });
  const statusOf: SecurityBed["status"] = async (client, order = {}) =>
    (await from(client, { url: serverUrl, ...order })).status;
  await until("every client is let in", 10_000, async () => {
    for (const client of clients) if ((await statusOf(client)) !== 200) return false;
    return (await get("/")).status === 200;
  });
  return {
    ...testbed,
    serverIp: status.podIP,
    serviceIp: spec.clusterIP,
    nodePorts: { http: spec.ports[0].nodePort, tcp: spec.ports[1].nodePort },
    from,
    get,
    status: statusOf,
    heard: async (client, url = "tcp://server.sec:9000") =>
      (await from(client, { url, timeoutMs: 1_000 })).body.includes("heard hello"),
    async object(kind, name, spec, { namespace = "sec", annotations = {} } = {}) {
      const made = item(kind, namespace, name, { spec });
      await apply(JSON.stringify({ ...made, metadata: { ...made.metadata, annotations } }));
    },
    async remove(kind, name, namespace = "sec") {
      await kubectl("delete", kind.toLowerCase(), name, "-n", namespace);
    },
    async settings(mesh) {
      await apply(JSON.stringify(item("ConfigMap", "istio-system", "istio", { data: { mesh: JSON.stringify(mesh) } })));
    },
    async settle(expected, order = {}) {
      const wanted = Object.entries(expected) as [Client, number][];
      let last = "";
      await until(`answers ${JSON.stringify(expected)}`, effectMs, async () => {
        for (let round = 0; round < 2; round++) {
          const got = await Promise.all(wanted.map(([client]) => statusOf(client, order)));
          last = got.join();
          if (last !== wanted.map(([, code]) => code).join()) throw new Error(last);
        }
        return true;
      });
    },
  };
}
