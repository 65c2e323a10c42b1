// When a client is too slow with its request's body: a bound on progress, not on the whole, so that large uploads over slow links pass. Pure.

/** Bytes a body must grow by in each window; slowhttptest's slow bodies bring some 30 in 10 s. */
export const bodyProgressBytesMin = 1024;

export class BodyPace {
  #sinceMs = 0;
  /** Body bytes since the window began. */
  grown = 0;

  begin(nowMs: number): void {
    this.#sinceMs = nowMs;
    this.grown = 0;
  }

  /** Asked now and then; windows are `windowMs` long. While we do not read (`isHeld`), the client is not to blame. */
  isTooSlow(nowMs: number, windowMs: number, isHeld: boolean): boolean {
    if (isHeld) {
      this.begin(nowMs);
      return false;
    }
    if (nowMs - this.#sinceMs <= windowMs) return false;
    if (this.grown < bodyProgressBytesMin) return true;
    this.begin(nowMs);
    return false;
  }
}
