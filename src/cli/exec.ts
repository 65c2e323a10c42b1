// `meshbed exec`: runs a command on a machine of the running testbed.

import { loadConfig } from "../cluster/config.ts";
import { requireRunning } from "../cluster/state.ts";
import { enterMachineArgv } from "../host/enter.ts";
import { MeshbedError } from "../kernel/errors.ts";

export async function exec(stateDir: string, machine: string, command: readonly string[]): Promise<void> {
  const running = requireRunning(stateDir);
  const config = loadConfig(stateDir);
  if (config.isolation.mode === "ports")
    throw new MeshbedError("NO_MACHINES", "in ports mode there are no machines: everything is on 127.0.0.1", {
      fix: "run the command directly",
    });
  const names = [...config.nodes, ...config.clients].map(({ name }) => name);
  if (!names.includes(machine))
    throw new MeshbedError("NO_SUCH_MACHINE", `no machine '${machine}'`, {
      fix: `there are: ${names.join(", ")}${config.clients.length === 0 ? "; client machines come with `meshbed up --clients N`" : ""}`,
    });
  const program = command[0] === "--" ? command.slice(1) : command;
  const child = Bun.spawn(enterMachineArgv(running.sandboxPid, config.isolation, machine, program), {
    stdio: ["inherit", "inherit", "inherit"],
  });
  process.exit(await child.exited);
}
