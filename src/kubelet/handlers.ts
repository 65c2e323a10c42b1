// Carries out one probe or lifecycle handler: httpGet, tcpSocket, exec, sleep.

import type { Pod } from "../api/types.ts";
import type { Clock } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import { httpGet, tcpConnect } from "./http-get.ts";
import type { ProbeSpec } from "./probe-schedule.ts";

type Container = NonNullable<Pod["spec"]>["containers"][number];
export type HookSpec = NonNullable<NonNullable<Container["lifecycle"]>["preStop"]>;

/** Where and how a container can be reached. */
export interface HandlerTarget {
  /** The pod's address. */
  host: string;
  /** What to dial it from, so that its proxy does not come between. */
  from?: string | undefined;
  /** A container port by number or name → the port that is really open (another in ports mode). Throws when the name is unknown. */
  portOf(port: number | string): number;
  exec(argv: readonly string[], timeoutMs: number): Promise<{ code: number; output: string; timedOut: boolean }>;
  clock: Clock;
}

export interface HandlerResult {
  ok: boolean;
  /** What went wrong, as the kubelet words it. */
  message: string;
}

/** Output of a failed command in an event is cut here. */
const outputCharsMax = 1_024;

export async function runProbe(probe: ProbeSpec, target: HandlerTarget, timeoutMs: number): Promise<HandlerResult> {
  try {
    if (probe.exec) return await runCommand(probe.exec.command ?? [], target, timeoutMs);
    if (probe.httpGet) {
      const status = await runHttpGet(probe.httpGet, target, timeoutMs);
      if (status >= 200 && status < 400) return { ok: true, message: "" };
      return { ok: false, message: `HTTP probe failed with statuscode: ${status}` };
    }
    if (probe.tcpSocket) {
      const { host, port } = probe.tcpSocket;
      await tcpConnect({ ...hostOf(host, target), port: target.portOf(port) }, timeoutMs, target.clock);
      return { ok: true, message: "" };
    }
    if (probe.grpc) return { ok: false, message: "meshbed has no grpc probes: use httpGet, tcpSocket or exec" };
    return { ok: false, message: "missing probe handler" };
  } catch (error) {
    return { ok: false, message: messageOf(error) };
  }
}

/** postStart and preStop. */
export async function runHook(hook: HookSpec, target: HandlerTarget, timeoutMs: number): Promise<HandlerResult> {
  try {
    if (hook.exec) return await runCommand(hook.exec.command ?? [], target, timeoutMs);
    if (hook.httpGet) {
      await runHttpGet(hook.httpGet, target, timeoutMs);
      return { ok: true, message: "" };
    }
    if (hook.sleep) {
      await target.clock.sleep(Math.min(hook.sleep.seconds * 1000, timeoutMs));
      return { ok: true, message: "" };
    }
    return { ok: false, message: `lifecycle handler ${Object.keys(hook).join(", ")} is not supported` };
  } catch (error) {
    return { ok: false, message: messageOf(error) };
  }
}

async function runCommand(argv: readonly string[], target: HandlerTarget, timeoutMs: number): Promise<HandlerResult> {
  if (argv.length === 0) return { ok: false, message: "exec: empty command" };
  const { code, output, timedOut } = await target.exec(argv, timeoutMs);
  if (timedOut)
    return {
      ok: false,
      message: `command timed out: ${JSON.stringify(argv.join(" "))} timed out after ${timeoutMs / 1000}s`,
    };
  return { ok: code === 0, message: code === 0 ? "" : output.trim().slice(0, outputCharsMax) || `exit status ${code}` };
}

const hostOf = (named: string | undefined, { host, from }: HandlerTarget) =>
  named && named !== host ? { host: named } : { host, from };

function runHttpGet(action: NonNullable<ProbeSpec["httpGet"]>, target: HandlerTarget, timeoutMs: number) {
  const path = action.path ?? "/";
  return httpGet(
    {
      scheme: action.scheme === "HTTPS" ? "https" : "http",
      ...hostOf(action.host, target),
      port: target.portOf(action.port),
      path: path.startsWith("/") ? path : `/${path}`,
      headers: (action.httpHeaders ?? []).map(({ name, value }) => ({ name, value: value ?? "" })),
    },
    timeoutMs,
    target.clock,
  );
}
