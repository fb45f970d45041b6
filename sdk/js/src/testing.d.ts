/** A host for unit tests, with no daemon and no Wasm. */

import type { Failure, Handler, StopReason } from "./index.js";

/** What a handler shall find. */
export interface Found {
  tenant?: string;
  queue?: string;
  /** Which attempt it is: 1 for the first. */
  attempt?: number;
  maxAttempts?: number;
  idempotencyKey?: string;
  /** Milliseconds until the deadline: 30,000, if not given. */
  remainingMs?: number;
  stopRequested?: StopReason;
  /** Granted secrets by name; others are refused. */
  secrets?: Record<string, string>;
  /** Environment variables. */
  env?: Record<string, string>;
  /** What is stored. */
  state?: Record<string, unknown>;
  /** Files by path. */
  files?: Record<string, string | Uint8Array>;
  /** Kinds that nobody handles: enqueueing one without naming a queue is refused. */
  unknownKinds?: string[];
  /** Makes every state call fail as unavailable, for this reason. */
  stateUnavailable?: string;
}

/** A line that a handler logged. */
export interface LogLine {
  level: "trace" | "debug" | "info" | "warn" | "error";
  message: string;
  fields: Record<string, string>;
}

/** A job that a handler's success created. */
export interface EnqueuedJob {
  id: string;
  kind: string;
  payload: any;
  queue: string | undefined;
  delayMs: number;
  priority: number;
  uniqueKey: string | undefined;
}

/** What a run did. */
export interface Run<Output> {
  /** What the handler returned, as its JSON has it; `undefined` if it failed. */
  output: Output | undefined;
  /** The output as it is kept with the job. */
  bytes: Uint8Array | undefined;
  /** Why it failed, if it did. */
  failure: Failure | undefined;
  /** The lines it logged, whether it succeeded or not. */
  logs: LogLine[];
  /** The progress it reported, whether it succeeded or not. */
  progress: { done: number; total: number | undefined; message: string | undefined }[];
  /** The jobs that its success created; none if it failed. */
  enqueued: EnqueuedJob[];
}

/**
 * Say what a handler shall find, run it, look at what it did:
 *
 * ```js
 * const host = new FakeHost({ state: { greeted: 41 } });
 * const run = await host.run(hello, { name: "Ann" });
 * assert.deepEqual(run.output, { greeting: "hello, Ann" });
 * assert.equal(host.stored("greeted"), 42);
 * ```
 */
export class FakeHost {
  constructor(found?: Found);
  /** Runs a handler as one attempt of a job, the whole way from payload to output. What it wrote is stored if it succeeded. */
  run<Output>(handler: Handler<any, Output>, payload: unknown): Promise<Run<Awaited<Output>>>;
  /** What is stored under a key now. */
  stored(key: string): any;
  /** A file's content now. */
  file(path: string): Uint8Array | undefined;
  /** The jobs that all runs so far have created. */
  readonly jobs: readonly EnqueuedJob[];
  /** Moves the clock: what was set for a time goes away. */
  advance(ms: number): void;
}
