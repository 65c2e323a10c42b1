// Says each problem once: a warning in the log and an Event on the object.

import { keyOf } from "../api/object.ts";
import type { EventRecorder } from "../client/event-recorder.ts";
import type { Log } from "../kernel/log.ts";
import { createProblemFinder } from "./problems-all.ts";
import type { MeshObjects, Model, Problem } from "./types.ts";

/** Problems remembered as said; past this all are forgotten and may be said once more. */
const saidMax = 10_000;

export interface Reporter {
  /** Says what was not said before. */
  report(model: Model, objects: MeshObjects): void;
}

export function createReporter(events: EventRecorder, log: Log): Reporter {
  const problemsOf = createProblemFinder();
  const said = new Set<string>();

  function say({ object, reason, message }: Problem): void {
    const id = `${object.metadata.uid} ${reason} ${message}`;
    if (said.has(id)) return;
    if (said.size >= saidMax) said.clear();
    said.add(id);
    log.warn("configuration not carried out", { kind: object.kind, object: keyOf(object), reason, detail: message });
    events.record(object, "Warning", reason, message);
  }

  return {
    report(model, objects) {
      for (const problem of problemsOf(model, objects)) say(problem);
    },
  };
}
