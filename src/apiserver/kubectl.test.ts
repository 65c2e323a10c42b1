// What a person at a terminal sees: the real kubectl against the API server alone. Skipped where kubectl is not installed.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { allKinds } from "../api/kinds/all.ts";
import { type KubectlFixture, startForKubectl } from "./kubectl-fixture.ts";

const manifests = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: nginx:1.25
        ports: [{containerPort: 80, name: http}]
        env: [{name: A, value: "1"}, {name: B, value: "2"}]
        resources: {requests: {cpu: 100m, memory: 64Mi}}
        readinessProbe: {httpGet: {path: /, port: http}}
        volumeMounts: [{name: data, mountPath: /data}]
      - {name: side, image: busybox}
      volumes: [{name: data, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}
`;

/** Each test starts kubectl several times; on a busy machine that takes its time. */
setDefaultTimeout(60_000);

let fixture: KubectlFixture;
let folder: string;

describe.skipIf(Bun.which("kubectl") === null)("kubectl", () => {
  beforeAll(async () => {
    fixture = await startForKubectl();
    folder = fixture.folder;
    writeFileSync(join(folder, "web.yaml"), manifests);
  });
  afterAll(() => fixture?.close());

  /** Standard output and error of one command, trimmed. */
  async function kubectl(
    args: string,
    options: { stdin?: string; env?: Record<string, string> } = {},
  ): Promise<string> {
    const child = Bun.spawn(["kubectl", "--cache-dir", join(folder, "cache"), ...args.split(" ")], {
      cwd: folder,
      env: { ...process.env, KUBECONFIG: fixture.kubeconfig, ...options.env },
      stdin: new Blob([options.stdin ?? ""]),
      stdout: "pipe",
      stderr: "pipe",
    });
    const [out, problem] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    return (out + problem).trim();
  }

  test("apply creates, says unchanged the second time and finds nothing to diff", async () => {
    const created = await kubectl("apply -f web.yaml");
    expect(created.split("\n").every((line) => line.endsWith(" created"))).toBe(true);
    const again = await kubectl("apply -f web.yaml");
    expect(again.split("\n").filter((line) => !line.endsWith(" unchanged"))).toEqual([]);
    expect(await kubectl("diff -f web.yaml")).toBe("");
  });

  test("apply takes back what left the manifest and leaves what others set", async () => {
    await kubectl("set env deploy/web C=3 -c web");
    const changed = manifests.replace(', {name: B, value: "2"}', "").replace("image: busybox", "image: busybox:3");
    expect(await kubectl("apply -f -", { stdin: changed })).toContain("deployment.apps/web configured");
    const { spec } = JSON.parse(await kubectl("get deploy web -o json"));
    const [web, side] = spec.template.spec.containers;
    expect(web.env.map(({ name }: { name: string }) => name)).toEqual(["A", "C"]);
    expect(side.image).toBe("busybox:3");
  });

  test("edit, patch, label, scale and set image change what they say", async () => {
    const editor = join(folder, "editor");
    writeFileSync(editor, '#!/bin/sh\nsed -i "s/replicas: 2/replicas: 7/" "$1"\n', { mode: 0o755 });
    expect(await kubectl("edit deploy web", { env: { KUBE_EDITOR: editor } })).toBe("deployment.apps/web edited");
    expect(await kubectl("set image deploy/web side=busybox:4")).toBe("deployment.apps/web image updated");
    expect(await kubectl("label deploy web tier=front")).toBe("deployment.apps/web labeled");
    expect(await kubectl('patch vs web --type=merge -p {"spec":{"gateways":["gw"]}}')).toEndWith("patched");
    expect(await kubectl('patch vs web -p {"spec":{"gateways":["gw"]}}')).toContain(
      "application/strategic-merge-patch+json is not supported",
    );
    expect(await kubectl("get deploy web --no-headers -o wide --show-labels")).toMatch(
      /^web +0\/7 +0 +0 +\d+s +web,side +nginx:1.25,busybox:4 +app=web +app=web,tier=front$/,
    );
    expect(await kubectl("scale deploy web --replicas=3")).toBe("deployment.apps/web scaled");
    expect(await kubectl("get vs web --no-headers")).toMatch(/^web +\["gw"\] +\["web"\] +\d+s$/);
  });

  test("what is misspelt, of the wrong type or unknown is refused in Kubernetes' words", async () => {
    const pod = (container: string) =>
      `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"bad"},"spec":{"containers":[${container}]}}`;
    expect(await kubectl("apply -f -", { stdin: pod('{"name":"a","image":"b","imagePullPolice":"x"}') })).toContain(
      'strict decoding error: unknown field "spec.containers[0].imagePullPolice"',
    );
    expect(await kubectl("create -f -", { stdin: pod('{"name":"A","image":"b"}') })).toContain(
      'The Pod "bad" is invalid: spec.containers[0].name: Invalid value: "A": a lowercase RFC 1123 label',
    );
    const policy = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: a}\n";
    expect(await kubectl("apply -f -", { stdin: policy })).toContain('no matches for kind "IstioOperator"');
  });

  test("explain knows built-in kinds and Istio's, in every version", async () => {
    expect(await kubectl("explain deployment.spec.strategy")).toContain("rollingUpdate\t<RollingUpdateDeployment>");
    expect(await kubectl("explain vs.spec.http.route")).toContain("destination\t<Object> -required-");
    expect(await kubectl("explain vs --api-version=networking.istio.io/v1alpha3")).toContain("VERSION:    v1alpha3");
  });

  test("kinds are found by short name and category", async () => {
    const names = await kubectl("api-resources --no-headers -o name");
    expect(names.split("\n").length).toBe(allKinds.length);
    expect(await kubectl("get all --no-headers -o name")).toContain("deployment.apps/web");
    expect(await kubectl("get po,svc,deploy,ds,rs,cm,ep,pv,pvc,sc,gw,vs,dr -o name")).toContain(
      "persistentvolumeclaim/data",
    );
  });
});
