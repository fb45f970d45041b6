// What a handler can ask and tell its host.

import { decode, encode } from "./codec.js";
import { wholeMs } from "./failure.js";
import { Files } from "./files.js";
import { HostError } from "./host-error.js";
import { Secret, shown } from "./secret.js";

const LEVELS = ["trace", "debug", "info", "warn", "error"];
const PRIORITY_USUAL = 100;
const UNIQUE_UNTIL = ["settled", "started", "over"];

/** @see index.d.ts */
export class Context {
  #host;
  #job;
  #info;
  #known;

  constructor(host, job) {
    this.#host = host;
    this.#job = job;
    this.state = new State(host.state);
    this.files = new Files(host.files);
    this.log = Object.freeze(
      Object.fromEntries(LEVELS.map((level) => [level, (message, fields = {}) => this.#write(level, message, fields)])),
    );
  }

  // Asked for when first needed: a handler that doesn't need it doesn't pay.
  get #attempt() {
    return (this.#info ??= this.#host.attemptInfo());
  }

  get #facts() {
    return (this.#known ??= this.#host.jobInfo());
  }

  get jobId() {
    return this.#job.id;
  }
  get kind() {
    return this.#job.kind;
  }
  get tenant() {
    return this.#attempt.tenant;
  }
  get queue() {
    return this.#attempt.queue;
  }
  get attempt() {
    return this.#attempt.attempt;
  }
  get maxAttempts() {
    return this.#attempt.maxAttempts;
  }
  get idempotencyKey() {
    return this.#attempt.idempotencyKey;
  }
  get deadline() {
    return new Date(this.#attempt.deadlineMs);
  }
  get enqueuedAt() {
    return new Date(this.#facts.enqueuedAtMs);
  }
  get contentType() {
    return this.#facts.contentType;
  }
  get group() {
    return this.#facts.group;
  }
  get labels() {
    return Object.fromEntries(this.#facts.labels);
  }
  get jobDeadline() {
    const { deadlineMs } = this.#facts;
    return deadlineMs === undefined ? undefined : new Date(deadlineMs);
  }
  get remainingMs() {
    return this.#host.remainingMs();
  }
  get stopRequested() {
    return this.#host.stopRequested();
  }
  get env() {
    return this.#host.env();
  }

  progress(done, total, message) {
    if (!(done >= 0 && (total === undefined || total >= 0))) {
      throw new RangeError(`progress: what is done is a number from 0, not ${done} of ${total}`);
    }
    this.#host.report(done, total, message);
  }

  enqueue(kind, payload, options) {
    return this.#host.enqueue(newJob(kind, payload, options));
  }

  secret(name) {
    return new Secret(this.#host.secret(name));
  }

  #write(level, message, fields) {
    const named = Object.entries(fields).map(([name, value]) => [name, shown(value)]);
    this.#host.log(level, String(message), named);
  }
}

/** @see index.d.ts */
class State {
  #host;

  constructor(host) {
    this.#host = host;
  }

  get(key) {
    const bytes = this.#host.get(key);
    if (bytes === undefined) return undefined;
    try {
      return decode(bytes);
    } catch (cause) {
      throw new HostError("invalid-value", `the value of state key \`${key}\` is ${cause.message}`);
    }
  }

  getBytes(key) {
    return this.#host.get(key);
  }

  set(key, value, { ttlMs } = {}) {
    this.#host.set(key, encode(value), lasting(ttlMs));
  }

  delete(key) {
    this.#host.delete(key);
  }

  increment(key, by = 1) {
    const whole = typeof by === "bigint" || Number.isSafeInteger(by) ? BigInt(by) : undefined;
    if (whole === undefined || BigInt.asIntN(64, whole) !== whole) {
      throw new RangeError(`increment state key \`${key}\`: it is by a whole number of 64 bits, not ${by}`);
    }
    this.#host.increment(key, whole);
  }

  compareAndSet(key, expected, value, { ttlMs } = {}) {
    const before = expected === undefined ? undefined : encode(expected);
    return this.#host.compareAndSet(key, before, encode(value), lasting(ttlMs));
  }
}

const lasting = (ttlMs) => (ttlMs === undefined ? undefined : wholeMs(ttlMs));

/** A job to be created. */
export function newJob(kind, payload, options = {}) {
  const { contentType, queue, group, delayMs, at, startWithinMs, deadlineMs, priority = PRIORITY_USUAL, labels = {} } = options;
  if (!Number.isInteger(priority) || priority < 0 || priority > 255) {
    throw new RangeError(`enqueue: the priority is a whole number from 0 to 255, not ${priority}`);
  }
  if (delayMs !== undefined && at !== undefined) throw new TypeError("enqueue: a job has a delay or a time to start at, not both");
  return {
    kind,
    payload: encode(payload),
    contentType,
    queue,
    group,
    start: at === undefined ? { tag: "after", val: wholeMs(delayMs ?? 0) } : { tag: "at", val: wholeMs(Number(at)) },
    startWithinMs: lasting(startWithinMs),
    deadlineMs: lasting(deadlineMs),
    priority,
    labels: Object.entries(labels),
    unique: uniqueOf(options),
  };
}

/** A unique key with its rule. */
function uniqueOf({ uniqueKey, unique, debounce }) {
  const given = [uniqueKey, unique, debounce].filter((way) => way !== undefined);
  if (given.length > 1) throw new TypeError("enqueue: a job has one of uniqueKey, unique and debounce, not several");
  if (debounce !== undefined) {
    const { key, delayMs, longestMs, leading = false } = debounce;
    return { key, rule: { tag: "debounce", val: { delayMs: wholeMs(delayMs), longestMs: wholeMs(longestMs), leading } } };
  }
  if (given.length === 0) return undefined;
  const { key, until = "settled", lastsMs, replaces = false } = unique ?? { key: uniqueKey };
  if (!UNIQUE_UNTIL.includes(until)) {
    throw new RangeError(`enqueue: a unique key is held until settled, started or over, not ${until}`);
  }
  return { key, rule: { tag: "hold", val: { until, lastsMs: lasting(lastsMs), replaces } } };
}
