// Contracts of the controllers room: what every controller is given and what it answers.

import type { EventRecorder } from "../client/event-recorder.ts";
import type { Informers } from "../client/informers.ts";
import type { Client } from "../client/types.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Log } from "../kernel/log.ts";
import type { Random } from "../kernel/random.ts";

export interface ControllerDeps {
  client: Client;
  /** Shared by all controllers of the process. */
  informers: Informers;
  clock: Clock;
  random: Random;
  log: Log;
  /** A recorder that signs with this component's name. */
  recorderOf(component: string): EventRecorder;
}

/** A running controller. */
export interface Controller {
  readonly name: string;
  /** Nothing waits and nothing is being worked on. */
  idle(): boolean;
  stop(): void;
}
