// What kubectl get prints of built-in kinds.

import { expect, test } from "bun:test";
import { kindOf, objectOf, workload } from "./testing.ts";

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
])("service %# prints its addresses and ports", (spec, clusterIp, externalIp, ports) => {
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
