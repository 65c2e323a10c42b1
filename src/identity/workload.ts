// Workload certificates: one per service account, shared by its pods, replaced at half of its life.

import type { Cancel, Clock } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";
import type { Authority, Certificate } from "./authority.ts";

/** Istio: SECRET_TTL. */
export const workloadLifetimeMs = 24 * 60 * 60 * 1000;
/** Past this many identities the least recently asked for is dropped and made anew when asked for again. */
const identitiesMax = 10_000;
const retryAfterMs = 1_000;
/** A timer of the runtime holds 31 bits of milliseconds. */
const timerMsMax = 2 ** 31 - 1;

export interface WorkloadCertificates {
  /** The current certificate, or undefined while the first is being made; `onIssued` is called when it is there. */
  current(spiffeId: string): Certificate | undefined;
  /** From now on certificates live this long; those that would outlive it are made anew at once. */
  setLifetime(lifetimeMs: number): void;
  /** Forgets identities that are no longer in use. */
  retain(spiffeIds: ReadonlySet<string>): void;
  /** Resolves when no certificate is being made. */
  idle(): Promise<void>;
  close(): void;
}

interface Entry {
  certificate: Certificate | undefined;
  pending: Promise<void> | undefined;
  cancel: Cancel | undefined;
}

/** `onIssued` is called after each first issue and each rotation. */
export function createWorkloadCertificates(options: {
  authority: Authority;
  clock: Clock;
  log: Log;
  lifetimeMs?: number;
  onIssued: (spiffeId: string) => void;
}): WorkloadCertificates {
  const { authority, clock, log, onIssued } = options;
  let lifetimeMs = options.lifetimeMs ?? workloadLifetimeMs;
  const entries = new Map<string, Entry>();
  let closed = false;

  function issue(spiffeId: string, entry: Entry): void {
    entry.cancel = undefined;
    entry.pending = authority.issue({ uris: [spiffeId], lifetimeMs, usages: ["server", "client"] }).then(
      (certificate) => {
        entry.pending = undefined;
        if (closed || entries.get(spiffeId) !== entry) return;
        entry.certificate = certificate;
        // One that was asked for under a longer lifetime goes as early as those after it.
        const halfLifeMs = Math.min(certificate.notAfterMs - clock.now(), lifetimeMs) / 2;
        entry.cancel = clock.after(Math.min(halfLifeMs, timerMsMax), () => issue(spiffeId, entry));
        onIssued(spiffeId);
      },
      (error: unknown) => {
        entry.pending = undefined;
        if (closed || entries.get(spiffeId) !== entry) return;
        log.error("workload certificate not issued", { identity: spiffeId, error: messageOf(error) });
        entry.cancel = clock.after(retryAfterMs, () => issue(spiffeId, entry));
      },
    );
  }

  function drop(spiffeId: string, entry: Entry): void {
    entry.cancel?.();
    entries.delete(spiffeId);
  }

  return {
    current(spiffeId) {
      let entry = entries.get(spiffeId);
      if (entry === undefined) {
        if (entries.size >= identitiesMax) {
          const [oldest, oldestEntry] = entries.entries().next().value!;
          drop(oldest, oldestEntry);
        }
        entry = { certificate: undefined, pending: undefined, cancel: undefined };
        entries.set(spiffeId, entry);
        issue(spiffeId, entry);
      }
      return entry.certificate;
    },
    setLifetime(nextMs) {
      const isShorter = nextMs < lifetimeMs;
      if (nextMs === lifetimeMs) return;
      lifetimeMs = nextMs;
      if (!isShorter) return;
      for (const [spiffeId, entry] of entries) {
        if (entry.pending !== undefined) continue;
        entry.cancel?.();
        issue(spiffeId, entry);
      }
    },
    retain(spiffeIds) {
      for (const [spiffeId, entry] of entries) if (!spiffeIds.has(spiffeId)) drop(spiffeId, entry);
    },
    async idle() {
      for (;;) {
        const pending = [...entries.values()].flatMap((e) => (e.pending ? [e.pending] : []));
        if (pending.length === 0) return;
        await Promise.all(pending);
      }
    },
    close() {
      closed = true;
      for (const [spiffeId, entry] of entries) drop(spiffeId, entry);
    },
  };
}
