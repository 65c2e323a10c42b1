// A thread that says on time when the next request is due: timers of the event loop are a millisecond coarse.

declare const self: Worker;

export interface Beat {
  /** performance.timeOrigin + performance.now(), comparable between threads. */
  startMs: number;
  periodMs: number;
  beats: number;
}

self.onmessage = ({ data: { startMs, periodMs, beats } }: MessageEvent<Beat>) => {
  const never = new Int32Array(new SharedArrayBuffer(4));
  for (let i = 0; i < beats; i++) {
    const waitMs = startMs + i * periodMs - performance.timeOrigin - performance.now();
    if (waitMs > 0) Atomics.wait(never, 0, 0, waitMs);
    self.postMessage(i);
  }
};
