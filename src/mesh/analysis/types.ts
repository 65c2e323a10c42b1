// Contracts of the analysis: what a check is given, what it says.

import type { KubeObject } from "../../api/object.ts";
import type { Cluster } from "./cluster.ts";
import type { Code } from "./messages.ts";

/** As Istio's analyzers grade messages; the numbers order them. */
export const levels = { Info: 1, Warning: 2, Error: 3 } as const;
export type Level = keyof typeof levels;

/** An object as checks pass it around: any of the typed kinds. */
export type Subject = Pick<KubeObject, "apiVersion" | "kind"> & { metadata: KubeObject["metadata"] };

/** One thing that is wrong, or worth knowing. */
export interface Finding {
  code: Code;
  subject: Subject;
  /** JSON path of the offending field; "" for the object as a whole. */
  field: string;
  message: string;
  /** What to do about it, in words. */
  fix: string | undefined;
}

export type Report = (code: Code, subject: Subject, field: string, message: string, fix?: string) => void;

/** One check: looks at everything, changes nothing. */
export type Check = (cluster: Cluster, report: Report) => void;
