import { expect, test } from "bun:test";
import type { KindDefinition } from "../kind.ts";
import type { KubeObject } from "../object.ts";
import { allKinds } from "./all.ts";

const kindOf = (name: string): KindDefinition => allKinds.find((kind) => kind.kind === name)!;

function objectOf(name: string, body: object): KubeObject {
  const kind = kindOf(name);
  const { metadata, ...rest } = body as { metadata?: object };
  return {
    apiVersion: kind.group === "" ? kind.version : `${kind.group}/${kind.version}`,
    kind: name,
    metadata: {
      name: "a",
      ...(kind.namespaced ? { namespace: "shop" } : {}),
      uid: "u",
      resourceVersion: "1",
      creationTimestamp: "2026-01-01T00:00:00Z",
      ...metadata,
    },
    ...rest,
  };
}

function defaulted(name: string, body: object): KubeObject {
  const object = objectOf(name, structuredClone(body));
  kindOf(name).applyDefaults(object);
  return object;
}

/** Every problem as "field: reason". */
function problems(name: string, body: object, oldBody?: object): string[] {
  const old = oldBody === undefined ? undefined : defaulted(name, oldBody);
  return kindOf(name)
    .validate(defaulted(name, body), old)
    .map((error) => `${error.field}: ${error.reason.replace("FieldValue", "")}`);
}

const container = (more: object = {}) => ({ name: "main", image: "nginx:1.25", ...more });
const pod = (containers: object = [container()], more: object = {}) => ({ spec: { containers, ...more } });
const template = (more: object = {}, podMore: object = {}) => ({
  metadata: { labels: { app: "web" } },
  spec: { containers: [container(more)], ...podMore },
});
const workload = (more: object = {}) => ({
  spec: { selector: { matchLabels: { app: "web" } }, template: template(), ...more },
});

test("a pod is completed as Kubernetes does", () => {
  expect(
    defaulted(
      "Pod",
      pod(
        [
          {
            name: "main",
            image: "nginx",
            ports: [{ containerPort: 80 }],
            livenessProbe: { httpGet: { port: 80 } },
            resources: { limits: { cpu: 1, memory: "1024Mi" } },
          },
        ],
        { volumes: [{ name: "v", configMap: { name: "c" } }, { name: "e" }] },
      ),
    ),
  ).toMatchObject({
    spec: {
      restartPolicy: "Always",
      dnsPolicy: "ClusterFirst",
      terminationGracePeriodSeconds: 30,
      schedulerName: "default-scheduler",
      securityContext: {},
      serviceAccountName: "default",
      enableServiceLinks: true,
      containers: [
        {
          imagePullPolicy: "Always",
          terminationMessagePath: "/dev/termination-log",
          terminationMessagePolicy: "File",
          ports: [{ containerPort: 80, protocol: "TCP" }],
          livenessProbe: {
            httpGet: { path: "/", port: 80, scheme: "HTTP" },
            timeoutSeconds: 1,
            periodSeconds: 10,
            successThreshold: 1,
            failureThreshold: 3,
          },
          resources: { limits: { cpu: "1", memory: "1Gi" }, requests: { cpu: "1", memory: "1Gi" } },
        },
      ],
      volumes: [
        { name: "v", configMap: { name: "c", defaultMode: 420 } },
        { name: "e", emptyDir: {} },
      ],
    },
    status: { phase: "Pending", qosClass: "Guaranteed" },
  });
});

test.each([
  ["nginx", "Always"],
  ["nginx:latest", "Always"],
  ["nginx:1.25", "IfNotPresent"],
  ["registry:5000/nginx", "Always"],
  ["registry:5000/nginx:1", "IfNotPresent"],
  ["nginx@sha256:abc", "IfNotPresent"],
])("image %s is pulled %s", (image, policy) => {
  const [first] = (
    defaulted("Pod", pod([{ name: "a", image }]))["spec"] as { containers: { imagePullPolicy: string }[] }
  ).containers;
  expect(first?.imagePullPolicy).toBe(policy);
});

test("defaults are a fixed point: applying them again changes nothing", () => {
  for (const [name, body] of [
    ["Pod", pod()],
    ["Deployment", workload()],
    ["DaemonSet", workload()],
    ["ReplicaSet", workload()],
    ["Service", { spec: { ports: [{ port: 80 }], selector: { a: "b" } } }],
    ["Secret", { stringData: { a: "b" } }],
    [
      "PersistentVolumeClaim",
      { spec: { accessModes: ["ReadWriteMany"], resources: { requests: { storage: "1024Mi" } } } },
    ],
    ["StorageClass", { provisioner: "x" }],
  ] as const) {
    const once = defaulted(name, body);
    const twice = structuredClone(once);
    kindOf(name).applyDefaults(twice);
    expect(twice).toEqual(once);
  }
});

test("workloads, services, claims and secrets get their defaults", () => {
  expect(defaulted("Deployment", workload())["spec"]).toMatchObject({
    replicas: 1,
    strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: "25%", maxUnavailable: "25%" } },
    revisionHistoryLimit: 10,
    progressDeadlineSeconds: 600,
  });
  expect(defaulted("DaemonSet", workload())["spec"]).toMatchObject({
    updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } },
  });
  expect(defaulted("Service", { spec: { type: "NodePort", ports: [{ port: 80 }] } })["spec"]).toEqual({
    type: "NodePort",
    sessionAffinity: "None",
    internalTrafficPolicy: "Cluster",
    externalTrafficPolicy: "Cluster",
    ipFamilies: ["IPv4"],
    ipFamilyPolicy: "SingleStack",
    ports: [{ port: 80, protocol: "TCP", targetPort: 80 }],
  });
  expect(defaulted("Secret", { data: { a: "YQ==" }, stringData: { a: "ü", b: "c" } })).toMatchObject({
    type: "Opaque",
    data: { a: "w7w=", b: "Yw==" },
  });
  expect(defaulted("Secret", { stringData: {} })["stringData"]).toBeUndefined();
});

test("nulls and unknown fields are dropped, as Kubernetes' decoder does", () => {
  const object = defaulted("Deployment", {
    ...workload({ foo: 1 }),
    metadata: { creationTimestamp: null, labels: { a: "b" } },
    status: null,
  });
  expect(object["spec"]).not.toHaveProperty("foo");
  expect(object).not.toHaveProperty("status");
  expect(object.metadata).not.toHaveProperty("creationTimestamp");
});

test.each<[string, string, object, string[]]>([
  ["a pod without containers", "Pod", pod([]), ["spec.containers: Required"]],
  ["a wrong type", "Deployment", workload({ replicas: "3" }), ["spec.replicas: Invalid"]],
  ["containers that are no list", "Pod", pod("main" as unknown as object), ["spec.containers: Invalid"]],
  ["an upper-case name", "Pod", { ...pod(), metadata: { name: "Web" } }, ["metadata.name: Invalid"]],
  [
    "a service name with a dot",
    "Service",
    { metadata: { name: "a.b" }, spec: { ports: [{ port: 80 }] } },
    ["metadata.name: Invalid"],
  ],
  ["a label value with a space", "ConfigMap", { metadata: { labels: { a: "b c" } } }, ["metadata.labels: Invalid"]],
  ["two containers of one name", "Pod", pod([container(), container()]), ["spec.containers[1].name: Duplicate"]],
  ["a container without an image", "Pod", pod([{ name: "a" }]), ["spec.containers[0].image: Required"]],
  [
    "a mount of a volume that is not there",
    "Pod",
    pod([container({ volumeMounts: [{ name: "v", mountPath: "/v" }] })]),
    ["spec.containers[0].volumeMounts[0].name: NotFound"],
  ],
  [
    "two mounts at one place",
    "Pod",
    pod(
      [
        container({
          volumeMounts: [
            { name: "v", mountPath: "/v" },
            { name: "v", mountPath: "/v" },
          ],
        }),
      ],
      { volumes: [{ name: "v" }] },
    ),
    ["spec.containers[0].volumeMounts[1].mountPath: Invalid"],
  ],
  [
    "a port out of range",
    "Pod",
    pod([container({ ports: [{ containerPort: 70000 }] })]),
    ["spec.containers[0].ports[0].containerPort: Invalid"],
  ],
  [
    "a probe without a handler",
    "Pod",
    pod([container({ readinessProbe: {} })]),
    ["spec.containers[0].readinessProbe: Required"],
  ],
  [
    "a malformed quantity",
    "Pod",
    pod([container({ resources: { requests: { cpu: "lots" } } })]),
    ["spec.containers[0].resources.requests[cpu]: Invalid"],
  ],
  [
    "a request above its limit",
    "Pod",
    pod([container({ resources: { requests: { cpu: "2" }, limits: { cpu: "1" } } })]),
    ["spec.containers[0].resources.requests: Invalid"],
  ],
  [
    "a volume of two kinds",
    "Pod",
    pod([container()], { volumes: [{ name: "v", emptyDir: {}, hostPath: { path: "/x" } }] }),
    ["spec.volumes[0].hostPath: Forbidden"],
  ],
  [
    "a path out of the volume",
    "Pod",
    pod([container({ volumeMounts: [{ name: "v", mountPath: "/v", subPath: "../x" }] })], { volumes: [{ name: "v" }] }),
    ["spec.containers[0].volumeMounts[0].subPath: Invalid"],
  ],
  [
    "an unknown restart policy",
    "Pod",
    pod([container()], { restartPolicy: "Sometimes" }),
    ["spec.restartPolicy: NotSupported"],
  ],
  [
    "an env value from two places",
    "Pod",
    pod([container({ env: [{ name: "A", value: "x", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } }] })]),
    ["spec.containers[0].env[0].valueFrom: Invalid"],
  ],
  [
    "a selector that misses its template",
    "Deployment",
    workload({ selector: { matchLabels: { app: "db" } } }),
    ["spec.template.metadata.labels: Invalid"],
  ],
  ["no selector", "Deployment", { spec: { template: template() } }, ["spec.selector: Required"]],
  ["an empty selector", "Deployment", workload({ selector: {} }), ["spec.selector: Invalid"]],
  [
    "a template that does not restart",
    "Deployment",
    workload({ template: template({}, { restartPolicy: "Never" }) }),
    ["spec.template.spec.restartPolicy: NotSupported"],
  ],
  ["negative replicas", "Deployment", workload({ replicas: -1 }), ["spec.replicas: Invalid"]],
  [
    "an update that may do nothing",
    "Deployment",
    workload({ strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 0 } } }),
    ["spec.strategy.rollingUpdate.maxUnavailable: Invalid"],
  ],
  ["a service without ports", "Service", { spec: { selector: { a: "b" } } }, ["spec.ports: Required"]],
  [
    "unnamed ports of several",
    "Service",
    { spec: { ports: [{ port: 80 }, { port: 81, name: "b" }] } },
    ["spec.ports[0].name: Required"],
  ],
  [
    "a port twice",
    "Service",
    {
      spec: {
        ports: [
          { port: 80, name: "a" },
          { port: 80, name: "b" },
        ],
      },
    },
    ["spec.ports[1]: Duplicate"],
  ],
  [
    "a node port on a ClusterIP service",
    "Service",
    { spec: { ports: [{ port: 80, nodePort: 30080 }] } },
    ["spec.ports[0].nodePort: Forbidden"],
  ],
  [
    "a node port out of range",
    "Service",
    { spec: { type: "NodePort", ports: [{ port: 80, nodePort: 80 }] } },
    ["spec.ports[0].nodePort: Invalid"],
  ],
  ["an external name that is missing", "Service", { spec: { type: "ExternalName" } }, ["spec.externalName: Required"]],
  [
    "a TLS secret without its keys",
    "Secret",
    { type: "kubernetes.io/tls" },
    ["data[tls.crt]: Required", "data[tls.key]: Required"],
  ],
  ["a secret value that is not base64", "Secret", { data: { a: "%%%" } }, ["data[a]: Invalid"]],
  ["a config key with a slash", "ConfigMap", { data: { "a/b": "c" } }, ["data[a/b]: Invalid"]],
  [
    "a claim without a size",
    "PersistentVolumeClaim",
    { spec: { accessModes: ["ReadWriteOnce"] } },
    ["spec.resources[storage]: Required"],
  ],
  [
    "an unknown access mode",
    "PersistentVolumeClaim",
    { spec: { accessModes: ["ReadWriteSome"], resources: { requests: { storage: "1Gi" } } } },
    ["spec.accessModes[0]: NotSupported"],
  ],
  [
    "a volume without a source",
    "PersistentVolume",
    { spec: { accessModes: ["ReadWriteOnce"], capacity: { storage: "1Gi" } } },
    ["spec: Required"],
  ],
  ["a class without a provisioner", "StorageClass", {}, ["provisioner: Required"]],
  [
    "an endpoint that is no address",
    "EndpointSlice",
    { addressType: "IPv4", endpoints: [{ addresses: ["web"] }] },
    ["endpoints[0].addresses[0]: Invalid"],
  ],
  [
    "a taint without a known effect",
    "Node",
    { spec: { taints: [{ key: "a", effect: "Never" }] } },
    ["spec.taints[0].effect: NotSupported"],
  ],
])("%s is refused", (_name, kind, body, expected) => {
  expect(problems(kind, body)).toEqual(expected);
});

test.each<[string, string, object, object, string[]]>([
  [
    "a deployment's selector",
    "Deployment",
    workload(),
    workload({
      selector: { matchLabels: { app: "web", b: "c" } },
      template: { ...template(), metadata: { labels: { app: "web", b: "c" } } },
    }),
    ["spec.selector: Invalid"],
  ],
  [
    "a service's address",
    "Service",
    { spec: { clusterIP: "10.96.0.7", ports: [{ port: 80 }] } },
    { spec: { clusterIP: "10.96.0.8", ports: [{ port: 80 }] } },
    ["spec.clusterIPs[0]: Invalid"],
  ],
  [
    "a claim's class",
    "PersistentVolumeClaim",
    { spec: { storageClassName: "a", accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } } },
    { spec: { storageClassName: "b", accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } } },
    ["spec: Forbidden"],
  ],
  ["a pod's command", "Pod", pod(), pod([container({ command: ["x"] })]), ["spec: Forbidden"]],
  [
    "a pod's node once bound",
    "Pod",
    pod([container()], { nodeName: "w1" }),
    pod([container()], { nodeName: "w2" }),
    ["spec: Forbidden"],
  ],
  ["a secret's type", "Secret", {}, { type: "other" }, ["type: Invalid"]],
  [
    "an immutable config map's data",
    "ConfigMap",
    { immutable: true, data: { a: "b" } },
    { immutable: true, data: { a: "c" } },
    ["data: Forbidden"],
  ],
  ["a class's provisioner", "StorageClass", { provisioner: "a" }, { provisioner: "b" }, ["provisioner: Forbidden"]],
])("%s cannot change", (_name, kind, old, body, expected) => {
  expect(problems(kind, body, old)).toEqual(expected);
});

test.each<[string, string, object, object]>([
  ["a pod's image", "Pod", pod(), pod([container({ image: "nginx:1.26" })])],
  ["a pod's tolerations, by more of them", "Pod", pod(), pod([container()], { tolerations: [{ operator: "Exists" }] })],
  ["a pod's node, by the scheduler", "Pod", pod(), pod([container()], { nodeName: "w1" })],
  [
    "a claim's volume, by the binder",
    "PersistentVolumeClaim",
    { spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } } },
    { spec: { volumeName: "v", accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "2Gi" } } } },
  ],
  [
    "a service whose update leaves the address out",
    "Service",
    { spec: { clusterIP: "10.96.0.7", ports: [{ port: 80 }] } },
    { spec: { ports: [{ port: 81 }] } },
  ],
])("%s may change", (_name, kind, old, body) => {
  expect(problems(kind, body, old)).toEqual([]);
});

/** Cells by column name, as -o wide shows them after 90 seconds. */
function cells(name: string, body: object): Record<string, unknown> {
  const object = objectOf(name, body);
  const nowMs = Date.UTC(2026, 0, 1, 0, 1, 30);
  return Object.fromEntries(kindOf(name).columns.map((column) => [column.name, column.value(object, nowMs)]));
}

test("nodes print status, roles and addresses", () => {
  expect(
    cells("Node", {
      metadata: { labels: { "node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge" } },
      spec: { unschedulable: true },
      status: {
        conditions: [{ type: "Ready", status: "True" }],
        addresses: [{ type: "InternalIP", address: "172.20.0.10" }],
        nodeInfo: {
          kubeletVersion: "v1.32.0",
          osImage: "Debian",
          kernelVersion: "6.1",
          containerRuntimeVersion: "meshbed://0.1",
        },
      },
    }),
  ).toEqual({
    Name: "a",
    Status: "Ready,SchedulingDisabled",
    Roles: "control-plane,edge",
    Age: "90s",
    Version: "v1.32.0",
    "Internal-IP": "172.20.0.10",
    "External-IP": "<none>",
    "OS-Image": "Debian",
    "Kernel-Version": "6.1",
    "Container-Runtime": "meshbed://0.1",
  });
});

test.each([
  [
    { type: "ClusterIP", clusterIP: "10.96.0.7", clusterIPs: ["10.96.0.7"], ports: [{ port: 80 }] },
    "10.96.0.7",
    "<none>",
    "80/TCP",
  ],
  [{ type: "ClusterIP", clusterIP: "None", clusterIPs: ["None"] }, "None", "<none>", "<none>"],
  [
    {
      type: "NodePort",
      clusterIP: "10.96.0.7",
      ports: [
        { port: 80, nodePort: 30080 },
        { port: 53, protocol: "UDP" },
      ],
    },
    "10.96.0.7",
    "<none>",
    "80:30080/TCP,53/UDP",
  ],
  [{ type: "LoadBalancer", clusterIP: "10.96.0.7", ports: [] }, "10.96.0.7", "<pending>", "<none>"],
  [{ type: "ExternalName", externalName: "example.com" }, "<none>", "example.com", "<none>"],
])("service %p prints its addresses and ports", (spec, clusterIp, externalIp, ports) => {
  expect(cells("Service", { spec })).toMatchObject({
    "Cluster-IP": clusterIp,
    "External-IP": externalIp,
    "Port(s)": ports,
  });
});

test("a load balancer prints what it was given", () => {
  const status = { loadBalancer: { ingress: [{ ip: "172.20.0.11" }, { hostname: "lb" }] } };
  expect(cells("Service", { spec: { type: "LoadBalancer", externalIPs: ["1.2.3.4"] }, status })["External-IP"]).toBe(
    "172.20.0.11,lb,1.2.3.4",
  );
});

test("workloads print counts, images and selectors", () => {
  const status = { replicas: 3, readyReplicas: 2, updatedReplicas: 1, availableReplicas: 2 };
  expect(cells("Deployment", { ...workload({ replicas: 3 }), status })).toEqual({
    Name: "a",
    Ready: "2/3",
    "Up-to-date": 1,
    Available: 2,
    Age: "90s",
    Containers: "main",
    Images: "nginx:1.25",
    Selector: "app=web",
  });
  expect(cells("ReplicaSet", { ...workload({ replicas: 3 }), status })).toMatchObject({
    Desired: 3,
    Current: 3,
    Ready: 2,
  });
});

test("events print who, what and when", () => {
  expect(
    cells("Event", {
      involvedObject: { kind: "Pod", name: "web-1", fieldPath: "spec.containers{main}" },
      reason: "Pulled",
      type: "Normal",
      message: "ready \n",
      count: 2,
      source: { component: "kubelet", host: "w1" },
      firstTimestamp: "2026-01-01T00:00:00Z",
      lastTimestamp: "2026-01-01T00:01:00Z",
    }),
  ).toEqual({
    "Last Seen": "30s",
    Type: "Normal",
    Reason: "Pulled",
    Object: "pod/web-1",
    Subobject: "spec.containers{main}",
    Source: "kubelet, w1",
    Message: "ready",
    "First Seen": "90s",
    Count: "2",
    Name: "a",
  });
});

test("storage prints modes, claims and the default class", () => {
  expect(
    cells("PersistentVolume", {
      spec: {
        capacity: { storage: "1Gi" },
        accessModes: ["ReadWriteMany", "ReadWriteOnce"],
        claimRef: { namespace: "shop", name: "c" },
      },
      status: { phase: "Bound" },
    }),
  ).toMatchObject({ Capacity: "1Gi", "Access Modes": "RWO,RWX", Status: "Bound", Claim: "shop/c" });
  expect(
    cells("PersistentVolumeClaim", {
      spec: { volumeName: "v" },
      status: { phase: "Bound", capacity: { storage: "1Gi" }, accessModes: ["ReadWriteMany"] },
    }),
  ).toMatchObject({ Volume: "v", Capacity: "1Gi", "Access Modes": "RWX" });
  const annotations = { "storageclass.kubernetes.io/is-default-class": "true" };
  expect(cells("StorageClass", { metadata: { annotations }, provisioner: "x" })["Name"]).toBe("a (default)");
});

test("a slice names three endpoints and counts the rest", () => {
  const endpoints = [1, 2, 3, 4, 5].map((n) => ({ addresses: [`10.244.0.${n}`] }));
  expect(cells("EndpointSlice", { addressType: "IPv4", endpoints, ports: [{ port: 80 }] })).toMatchObject({
    Ports: "80",
    Endpoints: "10.244.0.1,10.244.0.2,10.244.0.3 + 2 more...",
  });
  expect(cells("EndpointSlice", { addressType: "IPv4" })).toMatchObject({ Ports: "<unset>", Endpoints: "<unset>" });
});
