// A host for unit tests, with no daemon and no Wasm: it keeps the promises of the real one that a handler can see.
//
// A run's log, progress, files and requests are seen at once; its state writes and jobs are written only if the handler
// succeeds. Time stands still until the test moves it. Left out: limits of fuel, memory, time on the processor and log, and
// other jobs at the same time.

import { decode, encode } from "./codec.js";
import { newJob } from "./context.js";
import { permanent, transient } from "./failure.js";
import { Effects, Stored, bytesOf, same } from "./fake/effects.js";
import { FakeFiles } from "./fake/files.js";
import { HttpTable, withFetch } from "./fake/http.js";
import { Jobs, valueOf } from "./fake/jobs.js";
import { handle } from "./handler.js";
import { HostError } from "./host-error.js";

export { assertEnqueued, assertNotEnqueued } from "./fake/assert.js";

/** When the clock of a new host stands still: a day in 2025. */
const NOW = 1_750_000_000_000;

/** Those of a plugin whose TOML sets none. */
const LIMITS = { payload: 10 << 10, enqueues: 5_000, stateWrites: 5_000, effects: 1 << 20, output: 1 << 20 };

/** Labels that a job has at most. */
const LABELS_MAX = 16;

/** Attempts that one call of `drain` runs at most: jobs that enqueue jobs without end are a mistake that a test should see. */
const ATTEMPTS_MAX = 1_000;

/** The waits between attempts: those of a plugin whose TOML sets none, without their jitter. */
const BACKOFF_BASE_MS = 2_000;
const BACKOFF_MAX_MS = 600_000;

/** The shortest time for which a handler puts its job off. */
const PUT_OFF_MIN_MS = 1_000;

/** The longest wait that a handler may ask for. */
const RETRY_AFTER_MAX_MS = 24 * 60 * 60 * 1000;

/** @see testing.d.ts */
export class FakeHost {
  #found;
  #now = NOW;
  #stored = new Stored();
  #files;
  #http;
  #jobs = new Jobs();
  #idsGiven = 0;

  constructor(found = {}) {
    this.#found = {
      tenant: "acme",
      queue: "default",
      jobId: undefined,
      contentType: undefined,
      group: undefined,
      labels: {},
      attempt: 1,
      maxAttempts: 5,
      remainingMs: 30_000,
      stopRequested: undefined,
      secrets: {},
      env: {},
      unknownKinds: [],
      stateUnavailable: undefined,
      ...found,
      limits: { ...LIMITS, ...found.limits },
    };
    for (const [key, value] of Object.entries(found.state ?? {})) this.#stored.put(key, { bytes: encode(value), expiresAt: Infinity });
    this.#files = new FakeFiles(found.dirs ?? [], found.files ?? {});
    this.#http = new HttpTable(found.http ?? {});
  }

  async run(handler, payload) {
    const { jobId, queue, attempt, contentType, group, labels } = this.#found;
    const job = { enqueuedAtMs: this.#now, contentType, group, labels: Object.entries(labels).sort(byName), deadlineMs: undefined };
    return this.#attempted(handler, { id: jobId ?? this.#nextId(), queue, attempt, payload: encode(payload), job }, () => {});
  }

  enqueue(kind, payload, options) {
    const job = this.#checked(newJob(kind, payload, options));
    return this.#jobs.create({ ...job, id: this.#nextId() }, this.#now);
  }

  async drain(handlers, { forMs } = {}) {
    const begun = this.#now;
    const until = forMs === undefined ? Infinity : begun + forMs;
    const attempts = [];
    for (;;) {
      const job = this.#jobs.next(this.#now, (kind) => handlers.some((handler) => handler.kind === kind));
      if (job === undefined || this.#jobs.dueOf(job) > until) break;
      if (attempts.length === ATTEMPTS_MAX) {
        throw new Error(
          `drain: after ${ATTEMPTS_MAX} attempts jobs still wait, the next of kind \`${job.kind}\`: do they enqueue each other without end?`,
        );
      }
      this.#now = Math.max(this.#now, this.#jobs.dueOf(job));
      if (this.#jobs.expire(job, this.#now)) continue;
      const atMs = this.#now - begun;
      const run = await this.#attemptOf(job, handlers.find((handler) => handler.kind === job.kind));
      attempts.push({ job: { ...job }, atMs, run });
    }
    if (forMs !== undefined) this.#now = Math.max(this.#now, until);
    return attempts;
  }

  async #attemptOf(job, handler) {
    this.#jobs.tried(job);
    const { id, attempts: attempt, queue = this.#found.queue, bytes: payload } = job;
    // Its own unique key is free before its jobs are created.
    const run = await this.#attempted(handler, { id, queue, attempt, payload, job: this.#jobs.factsOf(job) }, () => {
      job.state = "succeeded";
    });
    const { failure } = run;
    if (failure?.putOff !== undefined) {
      const wait = Math.max(Math.min(failure.putOff.ms, RETRY_AFTER_MAX_MS), PUT_OFF_MIN_MS);
      this.#jobs.putOff(job, this.#now + wait);
    } else if (failure !== undefined && (failure.permanent || attempt >= this.#found.maxAttempts)) job.state = "dead";
    else if (failure !== undefined) {
      const wait = failure.retryAfterMs ?? Math.min(BACKOFF_BASE_MS * 2 ** (attempt - 1), BACKOFF_MAX_MS);
      this.#jobs.retry(job, this.#now + Math.min(wait, RETRY_AFTER_MAX_MS));
    }
    return run;
  }

  cancel(id) {
    const job = this.#jobs.get(id);
    if (job === undefined) throw new RangeError(`cancel: this host has no job ${id}`);
    if (job.state === "waiting") job.state = "cancelled";
  }

  stored(key) {
    const value = this.#stored.get(key, this.#now);
    return value === undefined ? undefined : decode(value.bytes);
  }

  file(path) {
    return this.#files.get(path);
  }

  get jobs() {
    return this.#jobs.all.map((job) => ({ ...job }));
  }

  advance(ms) {
    this.#now += ms;
  }

  #nextId() {
    this.#idsGiven += 1;
    return `job-${this.#idsGiven}`;
  }

  /** One attempt: runs the handler, and writes what it wants written if it succeeded. */
  async #attempted(handler, tried, succeeded) {
    const run = {
      ...tried,
      deadlineMs: Math.min(this.#now + this.#found.remainingMs, tried.job.deadlineMs ?? Infinity),
      effects: new Effects(this.#stored),
      exceeded: undefined,
      logs: [],
      progress: [],
      requests: [],
    };
    const job = { id: tried.id, kind: handler.kind, payload: tried.payload };
    const answer = await withFetch(this.#http, run.requests, () => handle(handler, this.#hostOf(run), job));
    const failure = this.#whyFailed(run, answer);
    const before = this.#jobs.all.length;
    if (failure === undefined) {
      run.effects.write(this.#now);
      succeeded();
      for (const job of run.effects.jobs) this.#jobs.create(job, this.#now);
    }
    const { logs, progress, requests } = run;
    const bytes = failure === undefined ? answer.output : undefined;
    const output = bytes === undefined ? undefined : asValue(bytes);
    const enqueued = this.#jobs.all.slice(before).map((job) => ({ ...job }));
    return { output, bytes, failure, logs, progress, requests, enqueued };
  }

  /** Why an attempt has failed: by its handler, past its deadline, past a limit, or as its state writes can't be written. */
  #whyFailed({ deadlineMs, exceeded, effects }, { output, failure }) {
    const { remainingMs, limits } = this.#found;
    if (this.#now > deadlineMs) return transient(`timed out after ${remainingMs} ms; raise limits.timeout`);
    if (exceeded && (exceeded.always || failure)) return permanent(exceeded.limit);
    if (failure) return failure;
    if (output.length > limits.output) return permanent(`output larger than ${limits.output} bytes; raise limits.output`);
    const key = effects.conflict(this.#now);
    return key === undefined ? undefined : transient(`state \`${key}\` was changed by another job before this one could settle`);
  }

  /** The host as one run sees it. */
  #hostOf(run) {
    const { tenant, maxAttempts, stopRequested, secrets, env } = this.#found;
    const { id, queue, attempt, deadlineMs } = run;
    return {
      attemptInfo: () => ({ tenant, queue, attempt, maxAttempts, idempotencyKey: id, deadlineMs }),
      jobInfo: () => run.job,
      remainingMs: () => Math.max(deadlineMs - this.#now, 0),
      stopRequested: () => stopRequested,
      log: (level, message, fields) => run.logs.push({ level, message, fields: Object.fromEntries(fields) }),
      report: (done, total, message) => run.progress.push({ done, total, message }),
      enqueue: (job) => this.#enqueued(run, job),
      secret: (name) => {
        if (Object.hasOwn(secrets, name)) return secrets[name];
        throw new HostError("not-granted", `secret \`${name}\` is not granted; add \`secrets = ["${name}"]\` under [grants] of the plugin's TOML`);
      },
      env: () => ({ ...env }),
      state: this.#stateOf(run),
      files: this.#files.calls(),
    };
  }

  #enqueued(run, job) {
    const { enqueues } = this.#found.limits;
    if (run.effects.jobs.length >= enqueues) throw exceed(run, `enqueued more than ${enqueues} jobs; raise limits.enqueues`, false);
    const checked = this.#checked(job);
    const id = this.#nextId();
    run.effects.jobs.push({ ...checked, id });
    this.#checkSize(run);
    return id;
  }

  /** A job that the host would create. */
  #checked({ kind, payload: bytes, queue, labels, ...options }) {
    const { unknownKinds, limits } = this.#found;
    const invalid = (what, value, rule) => new HostError("invalid", `\`${value}\` is not a valid ${what}: ${rule}`);
    const ofName = "of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit";
    if (!isName(kind, 127)) throw invalid("kind", kind, `1 to 127 ${ofName}`);
    if (queue !== undefined && !isName(queue, 63)) throw invalid("queue", queue, `1 to 63 ${ofName}`);
    const { group, contentType, unique, start } = options;
    if (group !== undefined && !isKey(group, 128)) throw invalid("group", group, "1 to 128 bytes without control characters");
    if (contentType !== undefined && !isContentType(contentType)) {
      const rule = "a type and a subtype with `/` between them, at most 127 visible characters of ASCII and spaces";
      throw invalid("content type", contentType, rule);
    }
    if (labels.length > LABELS_MAX) throw new HostError("invalid", `a job has at most ${LABELS_MAX} labels`);
    for (const [name, value] of labels) {
      if (!isName(name, 63)) throw invalid("label name", name, `1 to 63 ${ofName}`);
      if (value !== "" && !isKey(value, 255)) throw invalid("label value", value, "at most 255 bytes without control characters");
    }
    if (unique !== undefined) this.#checkUnique(unique, start, invalid);
    if (queue === undefined && unknownKinds.includes(kind)) {
      throw new HostError("unknown-kind", `no plugin of this tenant handles kind \`${kind}\`, and no queue was named`);
    }
    if (bytes.length > limits.payload) {
      throw new HostError("limit", `a payload of ${bytes.length} bytes is larger than limits.payload of ${limits.payload}`);
    }
    return { kind, bytes: bytes.slice(), queue, labels: [...labels].sort(byName), ...options };
  }

  #checkUnique({ key, rule: { tag, val } }, start, invalid) {
    if (!isKey(key, 256)) throw invalid("unique key", key, "1 to 256 bytes without control characters");
    if (tag === "hold") {
      if (val.until !== "over" || val.lastsMs !== undefined) return;
      throw new HostError("invalid", "a unique key that is held until its time is over needs that time");
    }
    if (start.tag !== "after" || start.val !== 0) {
      throw new HostError("invalid", "a debounced job starts by the rule of its unique key, and at no other time");
    }
    if (val.delayMs >= val.longestMs) {
      throw new HostError("invalid", "the delay of a debounced job has to be shorter than its longest wait");
    }
  }

  #stateOf(run) {
    const { effects } = run;
    const lookUp = (key) => {
      checkKey(key);
      const { stateUnavailable } = this.#found;
      if (stateUnavailable !== undefined && effects.restsOnStored(key)) throw new HostError("unavailable", stateUnavailable);
      return effects.read(key, this.#now);
    };
    const write = (key, work) => {
      checkKey(key);
      const { stateWrites } = this.#found.limits;
      if (effects.keys >= stateWrites && !effects.isWritten(key)) {
        throw exceed(run, `wrote more than ${stateWrites} keys; raise limits.state_writes`, false);
      }
      work();
      this.#checkSize(run);
    };
    return {
      get: (key) => lookUp(key)?.slice(),
      set: (key, bytes, ttlMs) => write(key, () => effects.set(key, bytes.slice(), ttlMs)),
      delete: (key) => write(key, () => effects.delete(key)),
      increment: (key, by) => write(key, () => effects.increment(key, by)),
      compareAndSet: (key, expected, bytes, ttlMs) => {
        if (!same(lookUp(key), expected)) return false;
        write(key, () => effects.swap(key, bytes.slice(), ttlMs, this.#now));
        return true;
      },
    };
  }

  #checkSize(run) {
    const { effects } = this.#found.limits;
    if (run.effects.size > effects) throw exceed(run, `state writes and enqueued jobs larger than ${effects} bytes; raise limits.effects`, true);
  }
}

/** Notes that a run has hit a limit: it fails for good, always or if it fails. */
function exceed(run, limit, always) {
  if (!run.exceeded?.always) run.exceeded = { limit, always };
  return new HostError("limit", limit);
}

const isName = (text, max) => text.length <= max && /^[a-z0-9][a-z0-9._-]*$/.test(text);

const isKey = (key, max) => key !== "" && bytesOf(key) <= max && !/\p{Cc}/u.test(key);

const isContentType = (text) => text.length <= 127 && /^[ -~]*$/.test(text) && /^[^ /](?:[^/]*[^ /])?\/[^ ](?:.*[^ ])?$/.test(text);

const byName = ([a], [b]) => (a < b ? -1 : 1);

function checkKey(key) {
  if (!isKey(key, 256)) throw new HostError("invalid-key", "a state key is 1 to 256 bytes without control characters");
}

// Raw bytes that are no JSON have no value.
function asValue(bytes) {
  const value = valueOf(bytes);
  return value === bytes ? undefined : value;
}
