// Contracts of tests of routes: what one case found.

export interface CaseResult {
  /** File the case is written in. */
  file: string;
  name: string;
  /** Empty: as expected. Each: "expected … got … because …". */
  failures: string[];
  /** Requests the case was tried with. */
  requests: number;
  durationMs: number;
}
