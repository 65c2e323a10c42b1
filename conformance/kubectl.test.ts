// kubectl against the testbed running an app that knows nothing of it: every verb a user reaches for, as on a real cluster.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root, startTestbed, type Testbed, until } from "./testbed.ts";

const hasKubectl = Bun.which("kubectl") !== null;
if (!hasKubectl) console.log("skipped: kubectl is not installed (package kubernetes-client)");

describe.skipIf(!hasKubectl)("kubectl", () => {
  let testbed: Testbed;
  const folder = mkdtempSync(join(tmpdir(), "guestbook-"));

  beforeAll(async () => {
    cpSync(join(root, "conformance/guestbook"), folder, { recursive: true });
    testbed = await startTestbed({ cwd: folder, args: ["-f", join(root, "testbed/00-namespace.yaml")] });
  }, 60_000);
  afterAll(async () => {
    await testbed?.down();
    rmSync(folder, { recursive: true, force: true });
  });

  test("get nodes,deploy,pods,svc -A -o wide prints the columns users know", async () => {
    const output = await testbed.kubectl("get", "nodes,deploy,pods,svc", "-A", "-o", "wide");
    expect(output).toMatch(
      /NAME +STATUS +ROLES +AGE +VERSION +INTERNAL-IP +EXTERNAL-IP +OS-IMAGE +KERNEL-VERSION +CONTAINER-RUNTIME/,
    );
    expect(output).toMatch(/node\/worker1 +Ready +worker .*172\.20\.0\.11/);
    expect(output).toMatch(/NAMESPACE +NAME +READY +UP-TO-DATE +AVAILABLE +AGE +CONTAINERS +IMAGES +SELECTOR/);
    expect(output).toMatch(/NAMESPACE +NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE +SELECTOR/);
  });

  test("apply -f of three manifests creates the app, a second apply changes nothing, the front end stores entries", async () => {
    for (const name of ["store", "frontend", "access"])
      expect(await testbed.kubectl("apply", "-f", join(folder, `${name}.yaml`))).toContain("created");
    await testbed.kubectl("rollout", "status", "deployment/frontend", "--timeout=20s");
    for (const name of ["store", "frontend", "access"]) {
      const again = await testbed.kubectl("apply", "-f", join(folder, `${name}.yaml`));
      expect(
        again
          .trim()
          .split("\n")
          .filter((line) => !line.endsWith("unchanged")),
      ).toEqual([]);
    }
    await until("the guestbook answers", 5_000, async () => (await fetch(testbed.url)).status === 200);
    expect((await fetch(testbed.url, { method: "POST", body: "first entry" })).status).toBe(201);
    expect(await (await fetch(testbed.url)).text()).toBe("hello from the guestbook\nfirst entry\n");
  });

  test("describe shows what happened to a pod and which endpoints a service has", async () => {
    const pod = await testbed.kubectl("describe", "pod", "-l", "tier=frontend");
    for (const word of [
      "Scheduled",
      "Pulled",
      "Created",
      "Started",
      "Successfully assigned default/frontend-",
      "Readiness:",
    ])
      expect(pod).toContain(word);
    expect(await testbed.kubectl("describe", "svc", "frontend")).toMatch(/Endpoints: +10\.244\.\d+\.\d+:80/);
    expect(await testbed.kubectl("describe", "deploy", "frontend")).toContain("ScalingReplicaSet");
    expect(await testbed.kubectl("describe", "node", "worker1")).toMatch(/Non-terminated Pods/);
  });

  test("scale, edit, set image, rollout history and undo", async () => {
    await testbed.kubectl("scale", "deploy/frontend", "--replicas=4");
    await testbed.kubectl("rollout", "status", "deployment/frontend", "--timeout=20s");
    expect((await testbed.kubectl("get", "pods", "-l", "tier=frontend", "-o", "name")).trim().split("\n")).toHaveLength(
      4,
    );
    const env = { KUBE_EDITOR: "sed -i s/name:.GREETING/name:\\ GREETINGS/" };
    expect(await testbed.kubectlWith(env, "edit", "deploy/frontend")).toContain("edited");
    await testbed.kubectl("rollout", "status", "deployment/frontend", "--timeout=20s");
    await until("the edit is served", 5_000, async () =>
      (await (await fetch(testbed.url)).text()).startsWith("guestbook\n"),
    );
    expect(await testbed.kubectl("rollout", "history", "deploy/frontend")).toMatch(/1 .*\n2 /);
    expect(await testbed.kubectl("rollout", "undo", "deploy/frontend")).toContain("rolled back");
    await testbed.kubectl("rollout", "status", "deployment/frontend", "--timeout=20s");
    await until("the old greeting is back", 5_000, async () =>
      (await (await fetch(testbed.url)).text()).startsWith("hello"),
    );
  }, 90_000);

  test("an unknown image says how to map it, and rollout undo brings the app back", async () => {
    await testbed.kubectl("set", "image", "deploy/frontend", "front=registry.example/nowhere:v1");
    await until("the pod waits", 10_000, async () =>
      /ErrImagePull|ImagePullBackOff/.test(await testbed.kubectl("get", "pods")),
    );
    expect(await testbed.kubectl("get", "events")).toContain("meshbed.yaml");
    await testbed.kubectl("rollout", "undo", "deploy/frontend");
    await testbed.kubectl("rollout", "status", "deployment/frontend", "--timeout=20s");
    expect((await fetch(testbed.url)).status).toBe(200);
  }, 60_000);

  test("logs -f follows, explain explains, mistakes are refused with the field", async () => {
    const logs = Bun.spawn(
      [
        "timeout",
        "3",
        "kubectl",
        "--kubeconfig",
        join(testbed.state, "kubeconfig"),
        "logs",
        "-f",
        "deploy/redis-leader",
      ],
      {
        stdout: "pipe",
        stderr: "ignore",
      },
    );
    expect(await new Response(logs.stdout).text()).toContain("store listens on 6379");
    expect(await testbed.kubectl("explain", "deployment.spec.strategy")).toContain("rollingUpdate");
    const wrong = testbed.apply(
      "apiVersion: v1\nkind: Service\nmetadata: { name: bad }\nspec: { prots: [{ port: 80 }] }\n",
    );
    expect(wrong).rejects.toThrow(/unknown field "spec\.prots"/);
    const foreign = testbed.apply("apiVersion: example.com/v1\nkind: Thing\nmetadata: { name: x }\n");
    expect(foreign).rejects.toThrow(/no matches for kind "Thing"/);
    const route =
      "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: bad }\nspec: { hosts: [x], http: [{ match: [{ uri: { regex: '(' } }], route: [{ destination: { host: web } }] }] }\n";
    expect(testbed.apply(route)).rejects.toThrow(/regex/);
  }, 30_000);

  test("delete removes the app and everything it owned", async () => {
    for (const name of ["store", "frontend", "access"])
      await testbed.kubectl("delete", "-f", join(folder, `${name}.yaml`));
    await until(
      "the pods are gone",
      40_000,
      async () => (await testbed.kubectl("get", "pods,rs", "-o", "name")).trim() === "",
    );
  }, 60_000);
});
