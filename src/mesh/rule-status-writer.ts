// Keeps the statuses of Istio's objects true: looks some time after a change, a check at a time, and writes what is different.

import { findCondition } from "../api/conditions.ts";
import { kindOfObject } from "../api/kinds/find.ts";
import { groupOf, keyOf } from "../api/object.ts";
import * as resources from "../api/resources.ts";
import type { EventRecorder } from "../client/event-recorder.ts";
import type { Client } from "../client/types.ts";
import { type Cancel, type Clock, timestamp } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import { ruleChecks } from "./analysis/checks.ts";
import { clusterOf, idOf } from "./analysis/cluster.ts";
import { isCode } from "./analysis/messages.ts";
import type { Finding, Report, Subject } from "./analysis/types.ts";
import { type RuleStatus, statusFor } from "./rule-status.ts";
import type { MeshObjects, Model } from "./types.ts";

/** After a change others mostly follow; pushes come first. */
const settleMs = 1_000;
/** Between two writes: twenty a second at most. */
const writeIntervalMs = 50;
/** Objects whose status is written in one round; the others wait for the next. */
const writesMax = 200;

export interface View {
  model: Model;
  objects: MeshObjects;
}

export interface RuleStatusWriter {
  /** Something may have changed. */
  changed(): void;
  stop(): void;
}

type Ruled = Subject & { status?: RuleStatus };

/** Kinds whose status is ours; the Gateway API's objects have their own writer. */
const ruleKinds = Object.entries(resources).flatMap(([key, resource]) =>
  typeof resource === "object" && resource.group.endsWith("istio.io")
    ? [{ list: key as keyof MeshObjects, resource: resource as resources.Resource }]
    : [],
);

export function createRuleStatusWriter(
  deps: { client: Client; clock: Clock; log: Log; events: EventRecorder },
  view: () => View,
): RuleStatusWriter {
  const { client, clock, log, events } = deps;
  let state: "idle" | "settling" | "working" | "stopped" = "idle";
  let again = false;
  let cancel: Cancel | undefined;
  const advice = createAdvice();

  const settle = (): void => {
    state = "settling";
    cancel = clock.after(settleMs, () => {
      state = "working";
      again = false;
      round()
        .catch((error) => log.warn("statuses not written", { error: messageOf(error) }))
        .finally(() => {
          if (state === "stopped") return;
          state = "idle";
          if (again) settle();
        });
    });
  };

  const round = async (): Promise<void> => {
    const findings = await look();
    // Read anew: what was written in the last round is in them by now.
    const { objects } = view();
    let written = 0;
    for (const { list, resource } of ruleKinds)
      for (const object of objects[list] as readonly Ruled[]) {
        const status = statusFor(object, findings.get(idOf(object)) ?? [], timestamp(clock));
        if (status === undefined || state === "stopped") continue;
        if (++written > writesMax) {
          again = true;
          return;
        }
        await write(resource, object, status);
        await clock.sleep(writeIntervalMs);
      }
  };

  /** One check a turn, so that pushes do not wait for all of them. */
  const look = async (): Promise<Map<string, Finding[]>> => {
    const { model, objects } = view();
    const findings = new Map<string, Finding[]>();
    const report: Report = (code, subject, field, message, fix) => {
      const id = idOf(subject);
      const list = findings.get(id) ?? [];
      findings.set(id, list);
      if (!list.some((each) => each.code === code && each.field === field))
        list.push({ code, subject, field, message, fix });
    };
    const cluster = clusterOf(model, objects, [], () => true);
    for (const check of ruleChecks) {
      if (state === "stopped") return findings;
      await clock.sleep(0);
      check(cluster, report);
    }
    await clock.sleep(0);
    for (const { list } of ruleKinds) for (const object of objects[list] as readonly Ruled[]) advice(object, report);
    return findings;
  };

  const write = async (resource: resources.Resource, object: Ruled, status: RuleStatus): Promise<void> => {
    const { namespace, name } = object.metadata;
    try {
      await client.patch(resource, namespace, name, { status }, { type: "merge", subresource: "status" });
      // What is not carried out has its own Events (report.ts), as soon as it is known.
      const passed = findCondition(status.conditions, "PassedAnalysis");
      const said = findCondition(object.status?.conditions, "PassedAnalysis");
      if (passed?.status === "False" && passed.message !== said?.message)
        events.record(object, "Warning", passed.reason ?? "PassedAnalysis", passed.message ?? "");
    } catch (error) {
      // Deleted or changed meanwhile: the next round sees.
      log.debug("status not written", { object: keyOf(object), kind: object.kind, error: messageOf(error) });
    }
  };

  return {
    changed() {
      if (state === "idle") settle();
      else if (state === "working") again = true;
    },
    stop() {
      state = "stopped";
      cancel?.();
    },
  };
}

/** What the API server warned about, once per object. */
function createAdvice(): (object: Ruled, report: Report) => void {
  const known = new WeakMap<object, { code: string; field: string; message: string }[]>();
  return (object, report) => {
    let warnings = known.get(object);
    if (warnings === undefined) {
      const kind = kindOfObject(object.kind, groupOf(object.apiVersion));
      warnings = (kind?.warn?.(object as never) ?? []).map((each) => ({ code: "IST0133", ...each }));
      known.set(object, warnings);
    }
    for (const { code, field, message } of warnings) report(isCode(code) ? code : "IST0133", object, field, message);
  };
}
