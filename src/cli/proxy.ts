// `meshbed proxy`: the proxy alone, from an Envoy bootstrap file. SIGHUP reloads it, SIGTERM drains, SIGINT stops; stdout is left to access logs.

import { loadConfig, type Standalone, startStandalone } from "../cluster/standalone.ts";
import { MeshbedError } from "../kernel/errors.ts";
import { hostPort } from "../kernel/host_port.ts";
import type { StaticConfig } from "../proxy/bootstrap/bootstrap.ts";
import { envoyLevels } from "../proxy/log/levels.ts";
import { paint, printError, table } from "./terminal.ts";

export interface ProxyOptions {
  config: string;
  mode: "serve" | "validate";
  logLevel: string;
  /** Seconds, as typed. */
  drainTimeS?: string;
}

const drainMaxS = 3600;

const say = (line = ""): void => console.error(line);
const notice = (line: string): void => say(`${paint.yellow("note:")} ${line}`);

export async function proxy(options: ProxyOptions): Promise<void> {
  const drainMs = drainTimeMs(options.drainTimeS);
  const config = loadConfig(options.config);
  config.notices.forEach(notice);
  if (options.mode === "validate") {
    console.log(`${paint.green("✓")} ${options.config} is valid: ${summary(config)}`);
    return;
  }
  const { promise: ended, resolve: end } = Promise.withResolvers<"drain" | "stop">();
  const running = await startStandalone(options.config, config, { level: envoyLevels[options.logLevel]! }, () =>
    end("stop"),
  );
  // Before it is said that the proxy serves: a signal without a handler would end it.
  onStopSignals(end);
  onReloadSignal(options.config, running);
  tell(options.config, config, running);
  if ((await ended) === "drain") {
    say("draining: no new connections, those there are may end; a second signal ends at once");
    await running.proxy.drain(drainMs === undefined ? {} : { drainMs });
  }
  await running.proxy.close();
  process.exit(0);
}

function drainTimeMs(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seconds = Number(text);
  if (!(seconds >= 0 && seconds <= drainMaxS) || text.trim() === "")
    throw new MeshbedError("OPTION_INVALID", `--drain-time-s ${text}: must be a number from 0 to ${drainMaxS}`);
  return seconds * 1000;
}

const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? "" : "s"}`;

const summary = ({ listeners, clusters, secrets }: StaticConfig): string =>
  [count(listeners.length, "listener"), count(clusters.length, "cluster"), count(secrets.length, "secret")].join(", ");

function tell(file: string, config: StaticConfig, { proxy: running }: Standalone): void {
  const rows = running.listeners().map(({ name, host, port }) => {
    return [name, paint.cyan(`${schemeOf(config, name)}://${hostPort(host, port)}`)];
  });
  if (config.admin) rows.push(["admin", paint.cyan(`http://${hostPort(config.admin.host, running.adminPort!)}`)]);
  say(`${paint.green("●")} ${file}: ${summary(config)}`);
  for (const line of table(rows)) say(line);
  say(paint.dim(`  kill -HUP ${process.pid} reloads the file, kill drains and stops, Ctrl-C stops`));
}

/** What a client would write before the address. */
function schemeOf(config: StaticConfig, name: string): string {
  const chain = config.listeners.find((listener) => listener.name === name)?.filterChains[0];
  const isHttp = chain?.filters.some(
    ({ configType }) =>
      configType.case === "typedConfig" && configType.value.typeUrl.endsWith(".HttpConnectionManager"),
  );
  const isTls = chain?.transportSocket !== undefined;
  return isHttp ? (isTls ? "https" : "http") : isTls ? "tls" : "tcp";
}

/** A person at the terminal waits for nobody. */
function onStopSignals(end: (how: "drain" | "stop") => void): void {
  let asked = false;
  for (const [signal, number] of [
    ["SIGTERM", 15],
    ["SIGINT", 2],
  ] as const)
    process.on(signal, () => {
      if (asked) process.exit(128 + number);
      asked = true;
      end(signal === "SIGTERM" ? "drain" : "stop");
    });
}

/** One reload at a time; a signal that comes meanwhile starts another one after it. */
function onReloadSignal(file: string, running: Standalone): void {
  let busy = false;
  let again = false;
  const reload = async (): Promise<void> => {
    busy = true;
    do {
      again = false;
      try {
        const { config, notices } = await running.reload();
        notices.forEach(notice);
        say(`${paint.green("✓")} reloaded ${file}: ${summary(config)}`);
      } catch (error) {
        printError(error);
        say(`${paint.yellow("!")} the running configuration stays as it was`);
      }
    } while (again);
    busy = false;
  };
  process.on("SIGHUP", () => {
    again = true;
    if (!busy) void reload();
  });
}
