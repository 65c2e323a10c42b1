// Work at a terminal with the real kubectl: creating from generators (protobuf bodies), describing, watching, deleting.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { type KubectlFixture, startForKubectl } from "./kubectl-fixture.ts";

const kubectlPath = Bun.which("kubectl");
const on = test.skipIf(kubectlPath === null);
const timeoutMs = 60_000;
let fixture: KubectlFixture;

beforeAll(async () => {
  if (kubectlPath !== null) fixture = await startForKubectl();
});
afterAll(() => fixture?.close());

const environment = () => ({ ...process.env, KUBECONFIG: fixture.kubeconfig, HOME: fixture.folder });

/** What it prints, errors too. */
async function kubectl(...args: string[]): Promise<string> {
  const child = Bun.spawn([kubectlPath!, ...args], { env: environment(), stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  await child.exited;
  return (out + err).trimEnd();
}

on(
  "create works from generators",
  async () => {
    expect(await kubectl("create", "configmap", "c", "--from-literal=a=b")).toBe("configmap/c created");
    expect(await kubectl("create", "secret", "generic", "s", "--from-literal=p=w")).toBe("secret/s created");
    expect(await kubectl("create", "namespace", "shop")).toBe("namespace/shop created");
    expect(await kubectl("create", "deployment", "web", "--image=x", "--replicas=2")).toBe(
      "deployment.apps/web created",
    );
    expect(await kubectl("create", "deployment", "web", "--image=x")).toContain("already exists");
    expect(await kubectl("expose", "deploy", "web", "--port=80", "--type=NodePort")).toBe("service/web exposed");
    expect(await kubectl("run", "p", "--image=nginx", "-n", "shop")).toBe("pod/p created");
    expect(await kubectl("get", "secret", "s", "-o", "jsonpath={.data.p}")).toBe("dw==");
    expect(await kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}")).toBe("2");
  },
  timeoutMs,
);

on(
  "describe puts an object and its events together",
  async () => {
    const pod = await kubectl("describe", "pod", "p", "-n", "shop");
    expect(pod).toMatch(/Status: +Pending/);
    expect(pod).toMatch(/Service Account: +default/);
    expect(pod).toMatch(/Events: +<none>/);
    expect(await kubectl("describe", "svc", "web")).toMatch(/NodePort: +<unset> +3\d{4}\/TCP/);
    expect(await kubectl("describe", "ns", "shop")).toMatch(/Status: +Active/);
  },
  timeoutMs,
);

on(
  "a watch prints changes as they come",
  async () => {
    const args = ["get", "cm", "-w", "--output-watch-events"];
    const child = Bun.spawn([kubectlPath!, ...args], { env: environment(), stdout: "pipe" });
    const change = async () => {
      await kubectl("create", "configmap", "late", "--from-literal=a=b");
      await kubectl("delete", "cm", "late");
    };
    let seen = "";
    let changed: Promise<void> | undefined;
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
      seen += chunk;
      changed ??= change();
      if (/DELETED.*\n/.test(seen)) break;
    }
    child.kill();
    await Promise.all([changed, child.exited]);
    expect(seen).toMatch(/ADDED +late +1 /);
    expect(seen).toMatch(/DELETED +late +1 /);
  },
  timeoutMs,
);

on(
  "delete waits until objects are gone",
  async () => {
    expect(await kubectl("delete", "pod", "p", "-n", "shop")).toBe('pod "p" deleted');
    expect(await kubectl("delete", "deploy,svc", "web")).toContain('service "web" deleted');
    expect(await kubectl("delete", "cm", "-l", "no=such")).toBe("No resources found");
    expect(await kubectl("get", "svc", "web")).toBe('Error from server (NotFound): services "web" not found');
    expect(await kubectl("delete", "ns", "default")).toContain("this namespace may not be deleted");
    expect(await kubectl("logs", "nobody")).toContain('pods "nobody" not found');
  },
  timeoutMs,
);
