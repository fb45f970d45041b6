// A host for unit tests, with no daemon and no Wasm: it keeps the promises of the real one that a handler can see.
//
// A run works on a copy of what is stored. Its log and progress are seen at once; its state writes, files and jobs reach
// the host only if the handler succeeds (files of the real host are written at once). Time stands still until the test
// moves it. Left out: the limits that an operator sets, and other jobs at the same time.

import { decode, encode } from "./codec.js";
import { handle } from "./handler.js";
import { HostError } from "./host-error.js";

/** When the clock of a new host stands still: a day in 2025. */
const NOW = 1_750_000_000_000;
const KEY_LENGTH_MAX = 256;

/** @see testing.d.ts */
export class FakeHost {
  #found;
  #now = NOW;
  #stored = new Map();
  #files = new Map();
  #jobs = [];
  #idsGiven = 0;

  constructor(found = {}) {
    this.#found = {
      tenant: "acme",
      queue: "default",
      attempt: 1,
      maxAttempts: 5,
      idempotencyKey: "job-0",
      remainingMs: 30_000,
      stopRequested: undefined,
      secrets: {},
      env: {},
      unknownKinds: [],
      stateUnavailable: undefined,
      ...found,
    };
    for (const [key, value] of Object.entries(found.state ?? {})) this.#stored.set(key, { bytes: encode(value) });
    for (const [path, content] of Object.entries(found.files ?? {})) this.#files.set(path, asBytes(content));
  }

  async run(handler, payload) {
    const run = new Run(this.#found, this.#now, new Map(this.#stored), new Map(this.#files), this.#jobs, this.#idsGiven);
    const job = { id: this.#found.idempotencyKey, kind: handler.kind, payload: encode(payload) };
    const { output, failure } = await handle(handler, run.host(), job);
    if (failure === undefined) {
      this.#stored = run.stored;
      this.#files = run.files;
      this.#jobs = [...this.#jobs, ...run.enqueued];
      this.#idsGiven = run.idsGiven;
    }
    const enqueued = failure === undefined ? run.enqueued : [];
    return { bytes: output, output: asValue(output), failure, logs: run.logs, progress: run.progress, enqueued };
  }

  stored(key) {
    const value = this.#stored.get(key);
    return value === undefined ? undefined : decode(value.bytes);
  }

  file(path) {
    return this.#files.get(path);
  }

  get jobs() {
    return this.#jobs;
  }

  advance(ms) {
    this.#now += ms;
    for (const [key, { expiresAt }] of this.#stored) if (expiresAt <= this.#now) this.#stored.delete(key);
  }
}

/** The host as one run sees it: a copy, which a run that fails simply doesn't hand back. */
class Run {
  logs = [];
  progress = [];
  enqueued = [];

  constructor(found, now, stored, files, jobsBefore, idsGiven) {
    Object.assign(this, { found, now, stored, files, jobsBefore, idsGiven });
  }

  host() {
    const { found, now } = this;
    return {
      attemptInfo: () => ({ ...found, deadlineMs: now + found.remainingMs }),
      remainingMs: () => found.remainingMs,
      stopRequested: () => found.stopRequested,
      log: (level, message, fields) => this.logs.push({ level, message, fields: Object.fromEntries(fields) }),
      report: (done, total, message) => this.progress.push({ done, total, message }),
      enqueue: (job) => this.enqueue(job),
      secret: (name) => {
        if (Object.hasOwn(found.secrets, name)) return found.secrets[name];
        throw new HostError("not-granted", `secret \`${name}\` is not granted; add it to \`secrets\` of [grants] in the plugin's TOML`);
      },
      env: () => ({ ...found.env }),
      state: this.stateCalls(),
      files: this.fileCalls(),
    };
  }

  enqueue({ kind, payload, queue, delayMs, priority, uniqueKey }) {
    if (queue === undefined && this.found.unknownKinds.includes(kind)) {
      throw new HostError("unknown-kind", `no plugin of this tenant handles kind \`${kind}\``);
    }
    this.idsGiven += 1;
    const id = `job-${this.idsGiven}`;
    const isSame = (job) => job.kind === kind && job.uniqueKey === uniqueKey;
    const held = uniqueKey !== undefined && [...this.jobsBefore, ...this.enqueued].some(isSame);
    if (!held) this.enqueued.push({ id, kind, payload: asValue(payload), queue, delayMs, priority, uniqueKey });
    return id;
  }

  stateCalls() {
    const checked = (key, call) => {
      if (this.found.stateUnavailable !== undefined) throw new HostError("unavailable", this.found.stateUnavailable);
      if (key === "" || new TextEncoder().encode(key).length > KEY_LENGTH_MAX || /\p{Cc}/u.test(key)) {
        throw new HostError("invalid-key", "a state key is 1 to 256 bytes without control characters");
      }
      return call(this.stored.get(key));
    };
    const set = (key, bytes, ttlMs) => this.stored.set(key, { bytes, expiresAt: ttlMs === undefined ? Infinity : this.now + ttlMs });
    return {
      get: (key) => checked(key, (value) => value?.bytes),
      set: (key, bytes, ttlMs) => void checked(key, () => set(key, bytes, ttlMs)),
      delete: (key) => void checked(key, () => this.stored.delete(key)),
      increment: (key, by) =>
        void checked(key, (value) => {
          const sum = integer(value) + by;
          if (BigInt.asIntN(64, sum) !== sum) throw notANumber();
          this.stored.set(key, { bytes: new TextEncoder().encode(String(sum)), expiresAt: value?.expiresAt ?? Infinity });
        }),
      compareAndSet: (key, expected, bytes, ttlMs) =>
        checked(key, (value) => {
          if (!same(value?.bytes, expected)) return false;
          set(key, bytes, ttlMs);
          return true;
        }),
    };
  }

  fileCalls() {
    const there = (path, doing) => {
      const content = this.files.get(path);
      if (content === undefined) throw new HostError("no-entry", `${doing} ${path}: there is no such file`);
      return content;
    };
    return {
      read: (path) => there(path, "read"),
      write: (path, content) => void this.files.set(path, content),
      list: (path) => {
        const prefix = path.endsWith("/") ? path : `${path}/`;
        const below = [...this.files.keys()].filter((file) => file.startsWith(prefix));
        if (below.length === 0) throw new HostError("no-entry", `list ${path}: there is no such file`);
        return [...new Set(below.map((file) => file.slice(prefix.length).split("/")[0]))];
      },
      remove: (path) => void (there(path, "remove"), this.files.delete(path)),
    };
  }
}

const notANumber = () => new HostError("not-a-number", "not an integer, or past the range of 64 bits");

/** A decimal integer as the runtime has it: no `+`, no leading zeros. */
function integer(value) {
  if (value === undefined) return 0n;
  const text = new TextDecoder().decode(value.bytes);
  if (!/^(0|-?[1-9][0-9]*)$/.test(text)) throw notANumber();
  return BigInt(text);
}

const same = (a, b) => (a === undefined || b === undefined ? a === b : a.length === b.length && a.every((byte, at) => byte === b[at]));

const asBytes = (content) => (typeof content === "string" ? new TextEncoder().encode(content) : content);

// Raw bytes that are no JSON have no value.
function asValue(bytes) {
  try {
    return bytes === undefined ? undefined : decode(bytes);
  } catch {
    return undefined;
  }
}
