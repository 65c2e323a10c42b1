// Findings → the status of one of Istio's objects (meta.istio.io IstioStatus): conditions, validation messages, observed generation. Pure.

import { type Condition, findCondition, withCondition } from "../api/conditions.ts";
import { sameValue } from "../api/field-errors.ts";
import { documentationUrl, messages } from "./analysis/messages.ts";
import type { Finding, Subject } from "./analysis/types.ts";

export interface RuleStatus {
  conditions?: readonly Condition[];
  validationMessages?: readonly object[];
  observedGeneration?: number | string;
}

/** Longer lists are cut: what counts is that there is something. */
const messagesMax = 20;
const messageCharsMax = 1_024;

/** Codes that say what meshbed itself does not do; the others are the configuration's own mistakes. */
const notReconciled = new Set(["MB0101", "MB0102"]);

/**
 * What is to be written; undefined when the status says it already, or when there is nothing to say and never was. `now` is
 * RFC 3339.
 */
export function statusFor(
  object: Subject & { status?: RuleStatus },
  findings: readonly Finding[],
  now: string,
): RuleStatus | undefined {
  const present = object.status ?? {};
  const ours = findCondition(present.conditions, "Reconciled") ?? findCondition(present.conditions, "PassedAnalysis");
  if (findings.length === 0 && ours === undefined) return undefined;
  const carried = findings.filter(({ code }) => notReconciled.has(code));
  const wrong = findings.filter(({ code }) => !notReconciled.has(code) && messages[code].level !== "Info");
  const conditions = withCondition(
    withCondition(present.conditions, conditionOf("Reconciled", carried, "carried out as written"), now),
    conditionOf("PassedAnalysis", wrong, "no issues found"),
    now,
  );
  const status: RuleStatus = {
    conditions,
    validationMessages: findings.slice(0, messagesMax).map(({ code }) => ({
      type: { name: messages[code].name, code },
      level: messages[code].level.toUpperCase(),
      documentationUrl: documentationUrl(code),
    })),
    observedGeneration: object.metadata.generation ?? 0,
  };
  const { conditions: c, validationMessages: v = [], observedGeneration: g } = present;
  const before = { conditions: c, validationMessages: v, observedGeneration: Number(g) };
  return sameValue(before, status) ? undefined : status;
}

function conditionOf(type: string, findings: readonly Finding[], well: string): Condition {
  const [first] = findings;
  if (first === undefined) return { type, status: "True", reason: type, message: well };
  const text = findings
    .map(({ code, field, message }) => `${code} ${field === "" ? "" : `${field}: `}${message}`)
    .join("; ");
  return {
    type,
    status: "False",
    reason: messages[first.code].name,
    message: text.length > messageCharsMax ? `${text.slice(0, messageCharsMax - 1)}…` : text,
  };
}

export interface Versioned {
  metadata: {
    generation?: number;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    deletionTimestamp?: string;
  };
}

/** Whether nothing but the status (and what follows from writing it) is different: no reason to translate anew. */
export function onlyStatusChanged(current: Versioned | undefined, old: Versioned | undefined): boolean {
  if (current?.metadata.generation === undefined || old === undefined) return false;
  const [a, b] = [current.metadata, old.metadata];
  return (
    a.generation === b.generation &&
    a.deletionTimestamp === b.deletionTimestamp &&
    sameValue(a.labels, b.labels) &&
    sameValue(a.annotations, b.annotations)
  );
}
