// What a run wants written, held back until it succeeds: reads lay it over what is stored.
//
// `set`, `delete` and `increment` are blind, as on the real host: what an increment meets is known when it is written.

import { HostError } from "../host-error.js";

/** What is stored, by key: `{ bytes, expiresAt }`. What has expired is there until it is asked for. */
export class Stored {
  #values = new Map();

  get(key, now) {
    const value = this.#values.get(key);
    return value !== undefined && now < value.expiresAt ? value : undefined;
  }

  put(key, value) {
    if (value === undefined) this.#values.delete(key);
    else this.#values.set(key, value);
  }
}

/** The writes, expectations and jobs of one run. */
export class Effects {
  jobs = [];
  #stored;
  #writes = new Map();
  #expectations = new Map();

  constructor(stored) {
    this.#stored = stored;
  }

  /** Whether what is stored matters to what the run sees of a key. */
  restsOnStored(key) {
    const write = this.#writes.get(key);
    return write === undefined || write.add !== undefined;
  }

  isWritten(key) {
    return this.#writes.has(key);
  }

  get keys() {
    return this.#writes.size;
  }

  /** The bytes that the run sees of a key. */
  read(key, now) {
    const write = this.#writes.get(key);
    const stored = this.#stored.get(key, now)?.bytes;
    if (write === undefined) return stored;
    return write.add === undefined ? write.bytes : added(stored, write.add);
  }

  set(key, bytes, ttlMs) {
    this.#writes.set(key, { bytes, ttlMs });
  }

  delete(key) {
    this.#writes.set(key, { bytes: undefined });
  }

  increment(key, by) {
    const before = this.#writes.get(key);
    if (before === undefined) this.#writes.set(key, { add: by });
    else if (before.add !== undefined) this.#writes.set(key, { add: inRange(before.add + by) });
    else this.#writes.set(key, { ...before, bytes: added(before.bytes, by) });
  }

  swap(key, bytes, ttlMs, now) {
    if (this.restsOnStored(key) && !this.#expectations.has(key)) {
      this.#expectations.set(key, this.#stored.get(key, now)?.bytes);
    }
    this.set(key, bytes, ttlMs);
  }

  /** Keys, values and jobs together, in bytes. */
  get size() {
    const sum = (sizes) => [...sizes].reduce((sum, size) => sum + size, 0);
    const written = ({ bytes, add }) => (add === undefined ? (bytes?.length ?? 0) : 8);
    return (
      sum([...this.#writes].map(([key, write]) => bytesOf(key) + written(write))) +
      sum([...this.#expectations].map(([key, value]) => bytesOf(key) + (value?.length ?? 0))) +
      sum(
        this.jobs.map(({ kind, bytes, group = "", contentType = "", labels }) =>
          sum([kind, group, contentType, ...labels.flat()].map(bytesOf)) + bytes.length,
        ),
      )
    );
  }

  /** The first key on which they can't be written. */
  conflict(now) {
    for (const [key, expected] of sorted(this.#expectations)) {
      if (!same(this.#stored.get(key, now)?.bytes, expected)) return key;
    }
    for (const [key, { add }] of sorted(this.#writes)) {
      if (add !== undefined && !isAddable(this.#stored.get(key, now)?.bytes, add)) return key;
    }
    return undefined;
  }

  /** Writes what there is no conflict of; the jobs are left. */
  write(now) {
    for (const [key, { bytes, ttlMs, add }] of this.#writes) {
      const before = this.#stored.get(key, now);
      if (add !== undefined) {
        this.#stored.put(key, { bytes: added(before?.bytes, add), expiresAt: before?.expiresAt ?? Infinity });
      } else if (bytes === undefined || ttlMs === 0) {
        this.#stored.put(key, undefined);
      } else {
        this.#stored.put(key, { bytes, expiresAt: ttlMs === undefined ? Infinity : now + ttlMs });
      }
    }
  }
}

const encoder = new TextEncoder();

export const bytesOf = (text) => encoder.encode(text).length;

const sorted = (map) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));

export const same = (a, b) =>
  a === undefined || b === undefined ? a === b : a.length === b.length && a.every((byte, at) => byte === b[at]);

const notANumber = () => new HostError("not-a-number", "not an integer, or past the range of 64 bits");

function inRange(number) {
  if (BigInt.asIntN(64, number) !== number) throw notANumber();
  return number;
}

/** The sum with a decimal integer as the runtime has it: no `+`, no leading zeros; a missing one counts as 0. */
function added(bytes, by) {
  const text = bytes === undefined ? "0" : new TextDecoder().decode(bytes);
  if (!/^(0|-?[1-9][0-9]*)$/.test(text)) throw notANumber();
  return encoder.encode(String(inRange(inRange(BigInt(text)) + by)));
}

function isAddable(bytes, by) {
  try {
    added(bytes, by);
    return true;
  } catch {
    return false;
  }
}
