// What Kubernetes refuses of built-in kinds, on creation and on update.

import { expect, test } from "bun:test";
import { container, pod, problems, template, workload } from "./testing.ts";

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
  ["more replicas than 32 bits hold", "Deployment", workload({ replicas: 2 ** 31 }), ["spec.replicas: Invalid"]],
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
  [
    "a service that needs IPv6",
    "Service",
    { spec: { ports: [{ port: 80 }], ipFamilyPolicy: "RequireDualStack", ipFamilies: ["IPv4", "IPv6"] } },
    ["spec.ipFamilyPolicy: Invalid", "spec.ipFamilies[1]: Invalid"],
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
  [
    "a service's type, from ClusterIP to ExternalName",
    "Service",
    { spec: { clusterIP: "10.96.0.7", ports: [{ port: 80 }] } },
    { spec: { type: "ExternalName", externalName: "a.com", clusterIP: "10.96.0.7", ports: [{ port: 80 }] } },
  ],
  [
    "a service's type, from LoadBalancer to ClusterIP",
    "Service",
    { spec: { type: "LoadBalancer", ports: [{ port: 80 }] } },
    { spec: { externalTrafficPolicy: "Cluster", allocateLoadBalancerNodePorts: true, ports: [{ port: 80 }] } },
  ],
])("%s may change", (_name, kind, old, body) => {
  expect(problems(kind, body, old)).toEqual([]);
});
