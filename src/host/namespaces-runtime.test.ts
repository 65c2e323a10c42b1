import { suiteInSandbox } from "./in-sandbox-suite.ts";

await suiteInSandbox("namespaces-suite.ts");
