// Builds the bundle that `meshbed up` starts its processes from, so that the first start need not.
import { join } from "node:path";
import { mainBundle } from "../src/cluster/bundle.ts";

console.log(`bundle: ${await mainBundle(join(import.meta.dir, ".."))}`);
