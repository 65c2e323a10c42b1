// Reads settings from environment variables; a value that cannot be right ends the start with a sentence that says why.

export type Environment = Readonly<Record<string, string | undefined>>;

export class SettingError extends Error {
  override name = "SettingError";
}

export function textSetting(env: Environment, name: string, fallback: string): string {
  const value = env[name];
  return value === undefined || value === "" ? fallback : value;
}

export function numberSetting(env: Environment, name: string, fallback: number, min: number, max: number): number {
  const text = env[name];
  if (text === undefined || text === "") return fallback;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    throw new SettingError(`${name} must be a whole number from ${min} to ${max}, not "${text}"`);
  }
  return value;
}
