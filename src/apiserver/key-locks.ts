// Writers of one object take turns, so that a crowd of them does not spend its time losing races against each other.

export interface KeyLocks {
  /** Runs `work` when every earlier work for this key has settled. */
  run<T>(key: string, work: () => Promise<T>): Promise<T>;
}

export function createKeyLocks(): KeyLocks {
  /** The last work of each busy key; an entry goes with its work. */
  const tails = new Map<string, Promise<unknown>>();
  return {
    run(key, work) {
      const before = tails.get(key);
      const result = before === undefined ? work() : before.then(work, work);
      const settled = result.then(
        () => {},
        () => {},
      );
      tails.set(key, settled);
      void settled.then(() => {
        if (tails.get(key) === settled) tails.delete(key);
      });
      return result;
    },
  };
}
