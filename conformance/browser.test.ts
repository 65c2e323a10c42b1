// A person with a browser: the video platform's own browser test, through the gateway, the mesh and the cache.
import { expect, test } from "bun:test";
import { join } from "node:path";
import { root, run, startTestbed } from "./testbed.ts";

const chromium = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const hasChromium = await Bun.file(chromium).exists();
if (!hasChromium) console.log(`skipped: the browser test needs Chromium at ${chromium} (package chromium)`);

test.skipIf(!hasChromium)(
  "a video uploaded in Chromium through the gateway is listed, plays, and can be sought",
  async () => {
    const testbed = await startTestbed();
    try {
      const result = await run(
        [process.execPath, "test", "--timeout", "60000", join(root, "apps/video/browser.test.ts")],
        {
          cwd: root,
          env: { BASE_URL: testbed.url },
          timeoutMs: 150_000,
        },
      );
      expect({ code: result.code, output: result.code === 0 ? "" : result.stderr.slice(-4_000) }).toEqual({
        code: 0,
        output: "",
      });
      expect(result.stderr).toMatch(/^ *[1-9]\d* pass$/m);
    } finally {
      await testbed.down();
    }
  },
  180_000,
);
