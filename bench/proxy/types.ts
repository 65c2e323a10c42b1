// Contracts of the data plane benchmark: what is measured (subjects, cases) and what comes out (rows).

/** Something under test: one proxy or a pair of them, all on the proxy core, reachable at `port`. */
export interface Subject {
  readonly name: string;
  readonly port: number;
  /** Every process of it; their CPU and memory are added up. */
  pids(): number[];
  stop(): Promise<void>;
}

/** A folder and child processes that end with the benchmark. */
export interface Lab {
  readonly folder: string;
  /** Starts a command pinned to one core. */
  start(core: string, command: readonly string[]): Child;
  close(): Promise<void>;
}

export interface Child {
  readonly pid: number;
  stop(): Promise<void>;
}

export interface Options {
  rounds: number;
  /** Short samples: to see that it works, not to quote. */
  quick: boolean;
  /** How long the soak runs. */
  minutes: number;
}

export interface Bench extends Options {
  readonly lab: Lab;
  /** Port of the backend that every subject forwards to. */
  readonly backendPort: number;
}

/** One figure per metric. */
export type Sample = Readonly<Record<string, number>>;

export interface Row {
  subject: string;
  metric: string;
  value: number;
  /** Median over the rounds of (meshbed's value ÷ this subject's value in the same round). */
  ratio?: number;
  target?: { text: string; met: boolean };
}

export interface Case {
  readonly name: string;
  /** What it measures and how. */
  readonly what: string;
  /** Runs only when named or with --all. */
  readonly onDemand?: true;
  run(bench: Bench): Promise<Row[]>;
}
