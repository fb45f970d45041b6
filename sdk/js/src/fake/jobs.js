// The jobs of a fake host: which there are, which is next, whose unique key is held.

import { decode } from "../codec.js";

/** All jobs of a host, in the order in which they were created. */
export class Jobs {
  all = [];
  /** When each may run, by the host's clock, and its place among those that may. */
  #due = new Map();
  #places = 0;

  /** Creates a job, unless its unique key is held. Returns its id, or that of the holder. */
  create({ id, kind, bytes, queue, delayMs, priority, uniqueKey }, now) {
    const holder = uniqueKey === undefined ? undefined : this.all.find((job) => holds(job, kind, uniqueKey));
    if (holder) return holder.id;
    const job = { id, kind, payload: valueOf(bytes), bytes, queue, delayMs, priority, uniqueKey, state: "waiting", attempts: 0 };
    this.all.push(job);
    this.retry(job, now + delayMs);
    return id;
  }

  get(id) {
    return this.all.find((job) => job.id === id);
  }

  /**
   * The job that is to be run next: of those that may run now the one with the highest priority that has waited longest, or
   * else the one that may run first.
   */
  next(now, runs) {
    const waiting = this.all.filter((job) => job.state === "waiting" && runs(job.kind));
    const order = (job) => {
      const [due, place] = this.#due.get(job.id);
      return [Math.max(due - now, 0), -job.priority, due, place];
    };
    return waiting.sort((a, b) => compare(order(a), order(b)))[0];
  }

  dueOf(job) {
    return this.#due.get(job.id)[0];
  }

  retry(job, due) {
    this.#due.set(job.id, [due, this.#places++]);
  }
}

const holds = (job, kind, key) => job.state === "waiting" && job.kind === kind && job.uniqueKey === key;

function compare(a, b) {
  const at = a.findIndex((part, at) => part !== b[at]);
  return at === -1 ? 0 : a[at] - b[at];
}

/** The value of bytes that are JSON; of others, the bytes. */
export function valueOf(bytes) {
  try {
    return decode(bytes);
  } catch {
    return bytes;
  }
}
