// Hands a shared port over: from now on the kernel gives its new connections to the process that bound it after us. Linux only.

import { dlopen, ptr } from "bun:ffi";
import { messageOf } from "../kernel/errors.ts";
import type { Log } from "../kernel/log.ts";

/** asm-generic/socket.h, asm-generic/bpf_common.h */
const SOL_SOCKET = 1;
const SO_ATTACH_REUSEPORT_CBPF = 51;
const BPF_RET_CONSTANT = 0x06;

/**
 * With SO_REUSEPORT the kernel spreads new connections over all sockets of a port, and resets those that wait in the queue of one
 * that is closed (measured: about 2 of 15,000 connections a second at every restart). So the sockets that end must get no more before
 * they close. A program of one instruction, which needs no privilege, answers "the socket with index 1" for every connection; sockets
 * are counted in the order of their binding, so that is the successor. Without one the answer is out of range, and the kernel falls
 * back to what it does without a program. When the socket with index 0 closes, the last one takes its place.
 */
function programOf(index: number): { bytes: Uint8Array; instructions: Uint8Array } {
  // struct sock_filter { u16 code; u8 jt, jf; u32 k }, struct sock_fprog { u16 len; sock_filter *filter }
  const instructions = new Uint8Array(8);
  const instruction = new DataView(instructions.buffer);
  instruction.setUint16(0, BPF_RET_CONSTANT, true);
  instruction.setUint32(4, index, true);
  const bytes = new Uint8Array(16);
  const program = new DataView(bytes.buffer);
  program.setUint16(0, 1, true);
  program.setBigUint64(8, BigInt(ptr(instructions)), true);
  return { bytes, instructions };
}

/** For listening sockets bound with SO_REUSEPORT. Where it cannot be done, what waits when they close is lost, as ever. */
export function steerAway(fds: readonly number[], log: Log): void {
  if (process.platform !== "linux" || fds.length === 0) return;
  try {
    const library = dlopen("libc.so.6", {
      setsockopt: { args: ["int", "int", "int", "ptr", "int"], returns: "int" },
    });
    const { bytes, instructions } = programOf(1);
    for (const fd of fds) {
      const failed = library.symbols.setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, ptr(bytes), bytes.length);
      if (failed !== 0) log.warn("new connections cannot be steered to a successor", { fd });
    }
    // The program points to them: they must live until here.
    instructions.fill(0);
    library.close();
  } catch (error) {
    log.warn("new connections cannot be steered to a successor", { error: messageOf(error) });
  }
}
