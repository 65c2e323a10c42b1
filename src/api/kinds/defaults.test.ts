// What Kubernetes fills in, filled in.

import { expect, test } from "bun:test";
import { defaulted, kindOf, pod, workload } from "./testing.ts";

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
