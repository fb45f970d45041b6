/** A host for unit tests, with no daemon and no Wasm. */

import type { Failure, Handler, NewJobOptions, StopReason } from "./index.js";

/** What a handler shall find. */
export interface Found {
  tenant?: string;
  queue?: string;
  /** The id of the job that `run` runs attempts of; without it, each run is one of a job of its own. */
  jobId?: string;
  /** What the payload of the job is that `run` runs, such as `text/csv`; the next two are its group and its labels. */
  contentType?: string;
  group?: string;
  labels?: Record<string, string>;
  /** Which attempt `run` is: 1 for the first. `drain` counts by itself. */
  attempt?: number;
  maxAttempts?: number;
  /**
   * Milliseconds from the beginning of each attempt until its deadline: 30,000, if not given. An attempt that is past it when
   * its handler returns, by the host's clock, is timed out.
   */
  remainingMs?: number;
  stopRequested?: StopReason;
  /** Granted secrets by name; others are refused. */
  secrets?: Record<string, string>;
  /** Environment variables. */
  env?: Record<string, string>;
  /** What is stored. */
  state?: Record<string, unknown>;
  /** Granted folders, by their names in the sandbox. */
  dirs?: string[];
  /** Files by path. If no folder is granted that one is in, its own is. */
  files?: Record<string, string | Uint8Array>;
  /**
   * What `fetch` finds, by `METHOD URL`. The URL may end in `*`, for all that begin like it; the method may be `*`. What
   * has no reply here is refused, as a host that isn't granted.
   */
  http?: Record<string, HttpReply | HttpReply[] | ((request: HttpRequest) => HttpReply | Promise<HttpReply>)>;
  /** Kinds that nobody handles: enqueueing one without naming a queue is refused. */
  unknownKinds?: string[];
  /** Makes every look at what is stored fail as unavailable, for this reason. Writes are held back until the end. */
  stateUnavailable?: string;
  /** Limits; those that aren't given are those of a plugin whose TOML sets none. */
  limits?: Partial<Limits>;
}

/** The limits that a fake host keeps. */
export interface Limits {
  /** The payload of a job that is enqueued, in bytes; more is refused. */
  payload: number;
  /** Jobs that a run enqueues; one more is refused, and a run that then fails does so for good. */
  enqueues: number;
  /** State keys that a run writes; likewise. */
  stateWrites: number;
  /** State writes and jobs of a run together, in bytes; past it, the run fails for good. */
  effects: number;
  /** The output, in bytes; past it, the run fails for good. */
  output: number;
}

/** A reply of the fake HTTP; in a list, one after the other, and the last for all that come then. */
export interface HttpReply {
  /** 200, if not given. */
  status?: number;
  headers?: Record<string, string>;
  body?: string | Uint8Array;
  /** The body as JSON. */
  json?: unknown;
  /** No reply: `fetch` fails with this message. */
  error?: string;
}

/** A request that a handler has sent. */
export interface HttpRequest {
  method: string;
  url: string;
  /** By name, in lower case. */
  headers: Record<string, string>;
  body: Uint8Array;
}

/** A line that a handler logged. */
export interface LogLine {
  level: "trace" | "debug" | "info" | "warn" | "error";
  message: string;
  fields: Record<string, string>;
}

/** A job of a fake host: created by a handler's success, or by `FakeHost.enqueue`. */
export interface EnqueuedJob {
  id: string;
  kind: string;
  /** The value of the payload's JSON; the bytes, if they are none. */
  payload: any;
  /** The payload as it is kept with the job. */
  bytes: Uint8Array;
  contentType: string | undefined;
  queue: string | undefined;
  group: string | undefined;
  /** Milliseconds from its creation until it may start. */
  delayMs: number;
  startWithinMs: number | undefined;
  deadlineMs: number | undefined;
  priority: number;
  labels: Record<string, string>;
  uniqueKey: string | undefined;
  /** What has become of it. */
  state: "waiting" | "succeeded" | "dead" | "cancelled";
  /** How often it has been tried, as far as that counts. */
  attempts: number;
}

/** What a run did. */
export interface Run<Output> {
  /** What the handler returned, as its JSON has it; `undefined` if it failed. */
  output: Output | undefined;
  /** The output as it is kept with the job. */
  bytes: Uint8Array | undefined;
  /**
   * Why it failed, if it did: by its handler, past its deadline, past a limit, or because its state writes can't be written.
   */
  failure: Failure | undefined;
  /** The lines it logged, whether it succeeded or not. */
  logs: LogLine[];
  /** The progress it reported, whether it succeeded or not. */
  progress: { done: number; total: number | undefined; message: string | undefined }[];
  /** The requests it sent by `fetch`, whether it succeeded or not. */
  requests: HttpRequest[];
  /** The jobs that its success created; none if it failed. */
  enqueued: EnqueuedJob[];
}

/** One attempt of a job. */
export interface Attempt {
  /** The job as it was after this attempt: its `attempts` say which it was, unless it was put off, its `state` what became of it. */
  job: EnqueuedJob;
  /** The time by the host's clock at which it began, since the call, in milliseconds. */
  atMs: number;
  /** What it did. */
  run: Run<any>;
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
  /** Enqueues a job as a producer does, for `drain` to run. Returns its id; that of the job which holds its unique key, if there is one. */
  enqueue(kind: string, payload: unknown, options?: NewJobOptions): string;
  /**
   * Runs the jobs that wait, and those that they enqueue, until none of these handlers' kinds is left; with `forMs`, those
   * that become due within that time. Returns every attempt, in order.
   *
   * A job that fails is tried again after its wait, as often as `maxAttempts` says. Nothing sleeps: the clock moves to when
   * the next job is due. The wait is what the handler asked for, or else that of a plugin whose TOML sets no policy, without
   * jitter: 2 s, 4 s, 8 s, up to 10 minutes. Jobs run one after the other, those that are due by priority, and then by
   * age. Jobs of other kinds go on waiting. Groups are known to the handler, and no rule for them is kept.
   *
   * @throws if jobs are still waiting after 1,000 attempts
   */
  drain(handlers: readonly Handler<any, any>[], options?: { forMs?: number }): Promise<Attempt[]>;
  /** Cancels a job that waits; its unique key is free. */
  cancel(id: string): void;
  /** What is stored under a key now. */
  stored(key: string): any;
  /** A file's content now. */
  file(path: string): Uint8Array | undefined;
  /** All jobs: those that runs so far have created, and those of `enqueue`. */
  readonly jobs: readonly EnqueuedJob[];
  /**
   * Moves the clock: what was set for a time goes away, what was enqueued with a delay may run. In the midst of a run, less
   * is left of it.
   */
  advance(ms: number): void;
}

/**
 * Asserts that a job of a kind was enqueued, by a run or by all runs of a host, and returns it. `payload` is what its payload
 * has at least, or a function that says whether it is the one. Where there is none, the message lists what was enqueued.
 */
export function assertEnqueued(of: Run<any> | FakeHost, kind: string, payload?: unknown): EnqueuedJob;

/** Asserts that no job of a kind was enqueued, or none with such a payload. */
export function assertNotEnqueued(of: Run<any> | FakeHost, kind: string, payload?: unknown): void;
