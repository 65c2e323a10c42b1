// Assertions for programming errors. Operating errors are thrown as MeshbedError instead.

/** Throws when `condition` is false: the caller broke a contract and the program must not go on. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`);
}

/** For the end of an exhaustive switch: a compile error when a case is missing, a throw when data lied about its type. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`);
}
