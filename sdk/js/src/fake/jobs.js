// The jobs of a fake host: which there are, which is next, whose unique key is held.

import { decode } from "../codec.js";
import { clashOf, delayOf, holdOf, isInForce } from "./keys.js";

/** All jobs of a host, in the order in which they were created. */
export class Jobs {
  all = [];
  /**
   * By id, the times of each by the host's clock: when it was created, may run, has to have started, is given up; its place among
   * those that may run; whether it has started.
   */
  #timings = new Map();
  /** How unique keys are held, by kind and key, and by which job. */
  #keys = new Map();
  #places = 0;

  /** Creates a job, unless its unique key is held. Returns its id, or that of the holder. */
  create({ id, bytes, start, unique, labels, ...given }, now) {
    const { kind, startWithinMs = Infinity, deadlineMs = Infinity } = given;
    const delayMs = delayOf(unique) ?? (start.tag === "after" ? start.val : Math.max(start.val - now, 0));
    if (unique !== undefined) {
      const holder = this.#clash(kind, unique, bytes, now);
      if (holder !== undefined) return holder;
      this.#keys.set(slotOf(kind, unique), { id, ...holdOf(unique.rule, now) });
    }
    const own = { labels: Object.fromEntries(labels), payload: valueOf(bytes), bytes, delayMs, uniqueKey: unique?.key };
    const job = { id, ...given, ...own, state: "waiting", attempts: 0 };
    this.all.push(job);
    const due = now + delayMs;
    this.#timings.set(id, { createdAt: now, startBy: due + startWithinMs, endsAt: due + deadlineMs, hasStarted: false });
    this.#wait(job, due);
    return id;
  }

  /** Does what a new job does to the one that holds its key, and returns that one's id; `undefined` if nobody holds it. */
  #clash(kind, unique, bytes, now) {
    const held = this.#keys.get(slotOf(kind, unique));
    if (held === undefined) return undefined;
    const job = this.get(held.id);
    const timing = this.#timings.get(held.id);
    if (!isInForce(held, job.state, timing.hasStarted, now)) return undefined;
    const { replaces, due, ends } = clashOf(unique.rule, held, job.state === "waiting", now);
    if (replaces) Object.assign(job, { bytes, payload: valueOf(bytes) });
    if (due !== undefined) {
      timing.startBy += due - timing.due;
      timing.due = due;
    }
    held.ends = ends ?? held.ends;
    return held.id;
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
      const { due, place } = this.#timings.get(job.id);
      return [Math.max(due - now, 0), -job.priority, due, place];
    };
    return waiting.sort((a, b) => compare(order(a), order(b)))[0];
  }

  dueOf(job) {
    return this.#timings.get(job.id).due;
  }

  /** What is known of a job beside its id, kind and payload. */
  factsOf(job) {
    const { createdAt, endsAt } = this.#timings.get(job.id);
    const { contentType, group, labels } = job;
    const deadlineMs = endsAt === Infinity ? undefined : endsAt;
    return { enqueuedAtMs: createdAt, contentType, group, labels: Object.entries(labels), deadlineMs };
  }

  /** Ends a job whose time is over before it could run. Returns whether it was. */
  expire(job, now) {
    const { startBy, endsAt, hasStarted } = this.#timings.get(job.id);
    if (!hasStarted && startBy < now) job.state = "cancelled";
    else if (endsAt <= now) job.state = "dead";
    return job.state !== "waiting";
  }

  /** Counts an attempt that begins. */
  tried(job) {
    job.attempts += 1;
    this.#timings.get(job.id).hasStarted = true;
  }

  /** Has a job wait until it is due again. It is dead if its time is over then. */
  retry(job, due) {
    if (this.#timings.get(job.id).endsAt <= due) job.state = "dead";
    else this.#wait(job, due);
  }

  /** Has a job wait until it is due again, as if this attempt hadn't been made. It is dead if its time is over then. */
  putOff(job, due) {
    this.retry(job, due);
    if (job.state === "waiting") job.attempts -= 1;
  }

  #wait(job, due) {
    Object.assign(this.#timings.get(job.id), { due, place: this.#places++ });
  }
}

const slotOf = (kind, { key }) => JSON.stringify([kind, key]);

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
