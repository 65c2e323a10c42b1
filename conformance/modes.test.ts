// The three ways to run: as root, as an ordinary user, and without namespaces at all. The site works in each.
import { expect, test } from "bun:test";
import { accessSync, constants } from "node:fs";
import { isRoot, processesNaming, root, startTestbed, type TestbedOptions } from "./testbed.ts";

const ordinaryUid = 65534;
const asUser = {
  argv: ["setpriv", `--reuid=${ordinaryUid}`, `--regid=${ordinaryUid}`, "--clear-groups"],
  uid: ordinaryUid,
};

function readableByOthers(): boolean {
  try {
    accessSync(root, constants.R_OK);
    return Bun.spawnSync([...asUser.argv, "test", "-r", `${root}/package.json`]).success;
  } catch {
    return false;
  }
}

async function siteWorks(options: TestbedOptions, expected: RegExp): Promise<void> {
  const testbed = await startTestbed(options);
  try {
    expect(testbed.output).toMatch(expected);
    const page = await fetch(testbed.url);
    expect(page.status).toBe(200);
    const video = /\/videos?\/([\w-]+)/.exec(await page.text())?.[0];
    expect(video).toBeDefined();
    const watch = await (await fetch(testbed.url + video)).text();
    const source = /<(?:source|video)[^>]* src="([^"]+)"/.exec(watch)?.[1];
    const whole = Buffer.from(await (await fetch(testbed.url + source)).arrayBuffer());
    for (const [from, to] of [
      [0, 99],
      [1000, 65_535],
      [whole.length - 10, whole.length - 1],
    ] as const) {
      const part = await fetch(testbed.url + source, { headers: { range: `bytes=${from}-${to}` } });
      expect(part.status).toBe(206);
      expect(Buffer.from(await part.arrayBuffer()).equals(whole.subarray(from, to + 1))).toBe(true);
    }
    const again = await fetch(testbed.url + source, { headers: { range: "bytes=0-99" } });
    expect(again.headers.get("x-cache-status")).toBe("HIT");
    expect((await fetch(testbed.tlsUrl, { tls: { rejectUnauthorized: false } })).status).toBe(200);
  } finally {
    await testbed.down();
  }
  expect(processesNaming(testbed.state)).toEqual([]);
}

test.skipIf(!isRoot)(
  "as root, in namespaces",
  () => siteWorks({ args: ["--mode", "namespaces"] }, /isolation: namespaces \(.*root/),
  60_000,
);

const canChangeUser = isRoot && readableByOthers();
if (isRoot && !canChangeUser) console.log(`skipped: an ordinary user cannot read ${root}`);
test.skipIf(isRoot && !canChangeUser)(
  "as an ordinary user, in unprivileged namespaces",
  () => siteWorks({ args: ["--mode", "namespaces"], ...(isRoot && { as: asUser }) }, /isolation: namespaces \(.*user/),
  60_000,
);

test(
  "in ports mode, without any privilege",
  () => siteWorks({ args: ["--mode", "ports"] }, /isolation: ports \(/),
  60_000,
);
