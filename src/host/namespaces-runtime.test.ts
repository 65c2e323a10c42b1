// Runs the namespaces runtime's suite in a sandbox, with and without privilege.

import { suiteInSandbox } from "./in-sandbox-suite.ts";

await suiteInSandbox("namespaces-suite.ts");
