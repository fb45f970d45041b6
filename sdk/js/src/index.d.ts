/** What a handler is written with. */

/** Any value that JSON has. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json | undefined };

/** How a payload becomes a handler's input. */
export interface HandlerOptions<Input> {
  /**
   * `"json"` (the default) parses it; `"bytes"` gives it as it is; a function is given the parsed JSON and returns the
   * input, or throws if it is none, which is a permanent failure. `Order.parse` of a schema library fits.
   */
  input?: "json" | "bytes" | ((value: any) => Input);
}

/** The handler of one kind of job. */
export interface Handler<Input = any, Output = unknown> {
  /** The kind of job, such as `mail.render`. */
  readonly kind: string;
  /** What it does. */
  readonly run: (ctx: Context, input: Input) => Output | Promise<Output>;
}

/**
 * Handles a kind of job: `handler("greet.hello", (ctx, input) => ({ greeting: `hello, ${input.name}` }))`.
 *
 * What is returned becomes the job's output: JSON, or a `Uint8Array` as it is. What is thrown is a failure: a
 * {@link permanent} one buries the job, {@link retryAfter} names the wait, and any other error means that it is tried
 * again by its retry policy. A component may handle several kinds.
 *
 * @throws if the kind has a handler already
 */
export function handler<Output>(
  kind: string,
  run: (ctx: Context, input: Uint8Array) => Output | Promise<Output>,
  options: { input: "bytes" },
): Handler<Uint8Array, Output>;
export function handler<Input = any, Output = unknown>(
  kind: string,
  run: (ctx: Context, input: Input) => Output | Promise<Output>,
  options?: HandlerOptions<Input>,
): Handler<Input, Output>;

/** Why a handler gave up. The message is kept with the job and shown to people: put no secret in it. */
export class Failure extends Error {
  private constructor();
  /** Whether trying again can't help: the job becomes a dead letter at once. */
  readonly permanent: boolean;
  /** The kind of failure, for the rules of the retry policy to go by. */
  readonly code: string | undefined;
  /** The wait before the next try, in milliseconds, instead of the retry policy's. */
  readonly retryAfterMs: number | undefined;
  /** Why and for how long the job is put off, if it is: that is no failure, and the attempt doesn't count. */
  readonly putOff: { readonly why: "snoozed" | "rate-limited" | "unavailable"; readonly ms: number; readonly downstream?: string } | undefined;
}

/** What else there is to say of a failure that may go away by itself. */
export interface FailureOptions {
  /**
   * The kind of failure, such as `smtp-421`, for the rules of the retry policy to go by: 1 to 63 of a-z, 0-9, `.`, `_`, `-`,
   * starting with a letter or digit.
   */
  code?: string;
  cause?: unknown;
}

/** A failure that trying again can't mend: `throw permanent("whom to greet?")`. The job becomes a dead letter at once. */
export function permanent(message: string, options?: { cause?: unknown }): Failure;

/** A failure that may go away by itself; any other error that is thrown means the same. */
export function transient(message: string, options?: FailureOptions): Failure;

/** A failure that may go away by itself, and is worth another try after so many milliseconds. */
export function retryAfter(ms: number, message: string, options?: FailureOptions): Failure;

/**
 * It is too early: `throw snooze(60_000)`. The job is run again after so many milliseconds, and this attempt doesn't count. The time
 * is at least a second and at most the policy's `retry_after_max`. A job that has been started 10,000 times is put off no more: this
 * then counts as a failure.
 */
export function snooze(ms: number): Failure;

/**
 * What the handler calls takes no more calls now: as {@link snooze}, and told apart from it. With the name of a service that the
 * plugin's `calls` has, all jobs that call it wait.
 */
export function rateLimited(ms: number, downstream?: string): Failure;

/**
 * A service that the plugin's `calls` has doesn't answer, or can't do what it was asked for: `throw unavailable("stripe")`. The job is
 * run again after so many milliseconds, 10,000 unless others are given, and this attempt doesn't count. If that happens to many jobs,
 * the service's circuit breaker opens, and jobs that call it wait.
 */
export function unavailable(downstream: string, ms?: number): Failure;

/** A refusal of the host. Uncaught, it means that the job is tried again. */
export class HostError extends Error {
  private constructor();
  /**
   * Of secrets and files `not-granted`; of state `invalid-key`, `limit`, `not-a-number`, `unavailable`, `invalid-value`;
   * of jobs `unknown-kind`, `invalid`, `limit`; of files also what WASI has, such as `no-entry` and `not-permitted`.
   */
  readonly code: string;
}

/**
 * The value of a secret. It doesn't show itself by accident: in a log, by `console.log` or where a debugger looks it is
 * `Secret(…)`; made into text (`${secret}`) or JSON it throws a `TypeError`.
 */
export class Secret {
  private constructor();
  /** The value, to be handed to whoever it is for. Keep it out of logs, failures, outputs and payloads. */
  expose(): string;
}

/** Why the host would like the handler to stop. */
export type StopReason = "cancelled" | "draining";

/** What a log line's field may be; objects are written as JSON. */
export type Fields = Record<string, unknown>;

/** Writes a log line. Past the log limit, lines are counted and dropped. Put no secret in one. */
export type Write = (message: string, fields?: Fields) => void;

/**
 * What a handler can ask and tell its host.
 *
 * What it writes through `enqueue` and `state` happens if and only if the job succeeds, exactly once. Log lines and
 * progress are seen at once; files are written at once.
 */
export interface Context {
  /** The job's id, unique for all time. */
  readonly jobId: string;
  /** The kind of job. */
  readonly kind: string;
  /** The tenant whose job this is. */
  readonly tenant: string;
  /** The queue that the job came from. */
  readonly queue: string;
  /** Which attempt this is: 1 for the first that counts. */
  readonly attempt: number;
  /** After this attempt there is no other. */
  readonly maxAttempts: number;
  /** The same on every attempt of this job, and of no other: hand it to outside systems, so that they can tell a repetition. */
  readonly idempotencyKey: string;
  /** When this attempt ends at the latest. */
  readonly deadline: Date;
  /** When the job was enqueued. */
  readonly enqueuedAt: Date;
  /** What the payload is, such as `text/csv`, if its producer has said so. */
  readonly contentType: string | undefined;
  /** The job's group in its queue, such as a customer. */
  readonly group: string | undefined;
  /** Names and values that the job's producer gave it. */
  readonly labels: Readonly<Record<string, string>>;
  /** When the job is given up, whatever attempts are left. `deadline` is that of this attempt. */
  readonly jobDeadline: Date | undefined;
  /** Milliseconds until the deadline; 0 when it has passed. */
  readonly remainingMs: number;
  /** Whether the host would like the handler to stop, and why. It needs no help to stop one. */
  readonly stopRequested: StopReason | undefined;
  /** The environment variables that the plugin's TOML grants. */
  readonly env: Readonly<Record<string, string>>;
  /** Structured log lines: `ctx.log.info("resized", { width: 320 })`. */
  readonly log: { readonly [level in "trace" | "debug" | "info" | "warn" | "error"]: Write };
  /** Small values that last from job to job. */
  readonly state: State;
  /** The files of granted folders. */
  readonly files: Files;
  /** Reports how far the job has come, in any unit. The last report wins; the host may leave some out. */
  progress(done: number, total?: number, message?: string): void;
  /**
   * Enqueues a further job, held back until this one succeeds, and returns its id. The payload is JSON, or a `Uint8Array`
   * as it is.
   */
  enqueue(kind: string, payload: unknown, options?: NewJobOptions): string;
  /** A secret that the plugin's TOML grants: `ctx.secret("API_TOKEN").expose()`. */
  secret(name: string): Secret;
}

/** How a further job is enqueued. */
export interface NewJobOptions {
  /** What the payload is, such as `text/csv`. */
  contentType?: string;
  /** The queue; the one that the kind's plugin names, if none is given. */
  queue?: string;
  /** The group in the queue, such as a customer: what the queue's rules for groups go by. */
  group?: string;
  /** Wait at least so many milliseconds. */
  delayMs?: number;
  /** When it may start, instead of a delay. */
  at?: Date;
  /** Cancel it if it hasn't started so many milliseconds after it could have. */
  startWithinMs?: number;
  /** Give it up so many milliseconds after it could have started, whatever attempts are left. */
  deadlineMs?: number;
  /** Names and values for people and programs to see, at most 16. */
  labels?: Record<string, string>;
  /** 0 to 255; the highest goes first. 100 is usual. */
  priority?: number;
  /**
   * While a job of the same kind with this key is neither succeeded, dead nor cancelled, no second one is created. Jobs of
   * different kinds don't hold each other's keys.
   */
  uniqueKey?: string;
  /** A unique key, and for how long the job holds it; instead of `uniqueKey`. */
  unique?: Unique;
  /** Makes one job of many events; instead of `uniqueKey`, and without a delay. */
  debounce?: Debounce;
}

/** How a unique key is held. */
export interface Unique {
  key: string;
  /**
   * What frees it: `"settled"`, when the job has succeeded, is dead or cancelled, if nothing else is said; `"started"`, already when
   * it has started; `"over"`, when its time is over, whatever becomes of the job.
   */
  until?: "settled" | "started" | "over";
  /** It is free after so many milliseconds in any case. `"over"` needs this. */
  lastsMs?: number;
  /** Whether the job that holds it gets the payload of one that comes while it waits, if both say so. */
  replaces?: boolean;
}

/** The rule of a job that stands for many events. */
export interface Debounce {
  /** The unique key. */
  key: string;
  /** It runs once no other has come for so many milliseconds, with the payload of the latest. */
  delayMs: number;
  /** It waits so many milliseconds from the first one at most; more than `delayMs`. */
  longestMs: number;
  /** Run the first one at once instead, and none of those that follow. */
  leading?: boolean;
}

/**
 * Small values that last from job to job. A plugin of a tenant has state of its own. Reads see what is stored plus what
 * this run has written. Values are JSON, or a `Uint8Array` as it is; keys are 1 to 256 bytes without control characters.
 */
export interface State {
  /** The value of a key; `undefined` if there is none. */
  get<Value = any>(key: string): Value | undefined;
  /** The value of a key as it is stored. */
  getBytes(key: string): Uint8Array | undefined;
  /** Sets a key; with `ttlMs` it goes away by itself after that time. */
  set(key: string, value: unknown, options?: { ttlMs?: number }): void;
  /** Removes a key. */
  delete(key: string): void;
  /** Adds to an integer; a missing one counts as 0. Increments of jobs that run at the same time all count. */
  increment(key: string, by?: number | bigint): void;
  /**
   * Sets a key to `value` if it is `expected` now, and still is when the job settles. `undefined` stands for a key that
   * isn't there; `null` is a value, which a key may have.
   * Returns whether it was; if another job has changed it by then, this attempt is given up and the job is tried again.
   */
  compareAndSet(key: string, expected: unknown, value: unknown, options?: { ttlMs?: number }): boolean;
}

/** The files of granted folders, by the names that the plugin's TOML gives them. */
export interface Files {
  /** A file's content. Refused with `not-granted` if its folder isn't granted, `no-entry` if it isn't there. */
  read(path: string): Uint8Array;
  /** A file's content as UTF-8. */
  readText(path: string): string;
  /** Writes a file anew. Where this isn't undone if the job fails, write the same again on the next attempt. */
  write(path: string, content: string | Uint8Array): void;
  /** The names in a folder, sorted. */
  list(path: string): string[];
  /** Removes a file. */
  remove(path: string): void;
}
