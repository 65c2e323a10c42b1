// Operating errors with a stable code; each edge (REST, CLI, proxy) translates codes to its own statuses in one place.

/** An error a person can act on. `code` is stable and in UPPER_SNAKE; `fix` says what to do about it. */
export class MeshbedError extends Error {
  readonly code: string;
  readonly fix: string | undefined;

  constructor(code: string, message: string, options: { fix?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "MeshbedError";
    this.code = code;
    this.fix = options.fix;
  }
}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
