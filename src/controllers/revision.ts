// Revisions of a Deployment: which ReplicaSet is the current template's, template hashes, revision annotations.

import type { Deployment, ReplicaSet } from "../api/types.ts";

export const revisionAnnotation = "deployment.kubernetes.io/revision";
export const revisionHistoryAnnotation = "deployment.kubernetes.io/revision-history";
export const desiredReplicasAnnotation = "deployment.kubernetes.io/desired-replicas";
export const maxReplicasAnnotation = "deployment.kubernetes.io/max-replicas";
export const templateHashLabel = "pod-template-hash";

/** The revision history annotation is cut to this many characters, oldest first (as in Kubernetes). */
const revisionHistoryCharsMax = 2_000;

/** Annotations a ReplicaSet does not take over from its Deployment. */
const notCopied = new Set([
  "kubectl.kubernetes.io/last-applied-configuration",
  revisionAnnotation,
  revisionHistoryAnnotation,
  desiredReplicasAnnotation,
  maxReplicasAnnotation,
  "deprecated.deployment.rollback.to",
]);

type Template = NonNullable<Deployment["spec"]>["template"];

/** Same template, whatever the hash label says. */
export function sameTemplate(a: Template | undefined, b: Template | undefined): boolean {
  return Bun.deepEquals(withoutHash(a), withoutHash(b));
}

function withoutHash(template: Template | undefined): unknown {
  const labels = { ...template?.metadata?.labels };
  delete labels[templateHashLabel];
  const { creationTimestamp: _, ...metadata } = { creationTimestamp: undefined, ...template?.metadata };
  return JSON.parse(JSON.stringify({ ...template, metadata: { ...metadata, labels } }));
}

/** The ReplicaSet of the Deployment's template; of several the oldest. */
export function findNewReplicaSet(deployment: Deployment, sets: readonly ReplicaSet[]): ReplicaSet | undefined {
  return [...sets].sort(byCreation).find((set) => sameTemplate(set.spec?.template, deployment.spec?.template));
}

export function byCreation(a: ReplicaSet, b: ReplicaSet): number {
  const [left, right] = [a.metadata.creationTimestamp, b.metadata.creationTimestamp];
  if (left !== right) return left < right ? -1 : 1;
  return revisionOf(a) - revisionOf(b) || (a.metadata.name < b.metadata.name ? -1 : 1);
}

export const revisionOf = (object: { metadata: { annotations?: Record<string, string> } }): number =>
  Number(object.metadata.annotations?.[revisionAnnotation]) || 0;

/** JSON with sorted keys: equal values give equal text. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const entries = Object.entries(value).filter(([, entry]) => entry !== undefined);
  return `{${entries
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, entry]) => `${JSON.stringify(key)}:${canonical(entry)}`)
    .join(",")}}`;
}

const alphabet = "bcdfghjklmnpqrstvwxz2456789";

/** FNV-1a (32 bits) over the template and the collision count, in Kubernetes' alphabet of safe characters. */
export function templateHash(template: Template | undefined, collisionCount: number | undefined): string {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(`${canonical(template)}${collisionCount ?? ""}`))
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return [...String(hash)].map((digit) => alphabet[digit.charCodeAt(0) % alphabet.length]).join("");
}

/**
 * The annotations the current ReplicaSet should have: the Deployment's own, the revision one above all older sets', and the
 * revisions it had before.
 */
export function newSetAnnotations(
  deployment: Deployment,
  old: readonly ReplicaSet[],
  current: ReplicaSet | undefined,
  maxSurge: number,
): Record<string, string> {
  const annotations: Record<string, string> = {};
  for (const [key, value] of Object.entries(deployment.metadata.annotations ?? {}))
    if (!notCopied.has(key)) annotations[key] = value;
  const oldest = old.reduce((most, set) => Math.max(most, revisionOf(set)), 0);
  const before = current === undefined ? 0 : revisionOf(current);
  const revision = Math.max(before, oldest + 1);
  annotations[revisionAnnotation] = String(revision);
  const history = current?.metadata.annotations?.[revisionHistoryAnnotation];
  if (before > 0 && before < revision) {
    const revisions = history ? history.split(",") : [];
    revisions.push(String(before));
    while (revisions.join(",").length > revisionHistoryCharsMax) revisions.shift();
    annotations[revisionHistoryAnnotation] = revisions.join(",");
  } else if (history !== undefined) annotations[revisionHistoryAnnotation] = history;
  return { ...annotations, ...replicasAnnotations(deployment, maxSurge) };
}

/** What proportional scaling later compares with: the size this rollout was planned for. */
export function replicasAnnotations(deployment: Deployment, maxSurge: number): Record<string, string> {
  const replicas = deployment.spec?.replicas ?? 1;
  return {
    [desiredReplicasAnnotation]: String(replicas),
    [maxReplicasAnnotation]: String(replicas + maxSurge),
  };
}
