// Plays the steps of a host scenario: what a handler asks of its host, one after the other. `sdk/scenarios` has the steps and
// what is to come of them, against each language's fake host and against the daemon.

import { HostError, handler, permanent, rateLimited, retryAfter, snooze, transient, unavailable } from "sandhog-sdk";

/** Plays the steps of this attempt. Each answer is logged, so that it is known of attempts that fail as well. */
export const play = handler("hog.play", async (ctx, { attempts }) => {
  const steps = attempts[Math.min(ctx.attempt, attempts.length) - 1];
  for (const [number, step] of steps.entries()) {
    const [[name, argument]] = Object.entries(step);
    if (name === "output") return "x".repeat(argument);
    if (name in ENDS) throw ENDS[name](argument);
    if (name in PUT_OFFS && isFirst(ctx, argument.unless)) throw PUT_OFFS[name](argument.ms);
    ctx.log.info("answer", { step: number, answer: JSON.stringify(await answer(ctx, name, argument)) });
  }
  return "";
});

const ENDS = {
  fail: (message) => transient(message),
  fail_with: ({ code, message }) => transient(message, { code }),
  retry_after: ({ ms, message }) => retryAfter(ms, message),
  permanent: (message) => permanent(message),
};

const PUT_OFFS = { snooze, rate_limited: (ms) => rateLimited(ms, "stripe"), unavailable: (ms) => unavailable("stripe", ms) };

/** Whether a file isn't there, which is written now. */
function isFirst(ctx, path) {
  try {
    ctx.files.read(path);
    return false;
  } catch {
    ctx.files.write(path, "");
    return true;
  }
}

const ok = (nothing) => (nothing === undefined ? "ok" : nothing);

const text = (length) => "x".repeat(length);

/** The options of a job as the contract's SDK has them. */
function options(ctx, { queue, group, labels, priority, at_ms: atMs, unique, debounce, ...job }) {
  const { until_started: untilStarted, for_ms: forMs, at_most_ms: atMostMs, replacing } = unique ?? {};
  const until = forMs === undefined ? (untilStarted ? "started" : undefined) : "over";
  const { delay_ms: delayMs, longest_ms: longestMs, leading } = debounce ?? {};
  return {
    queue,
    group,
    labels,
    priority,
    contentType: job.content_type,
    delayMs: job.delay_ms,
    at: atMs === undefined ? undefined : new Date(ctx.enqueuedAt.getTime() + atMs),
    startWithinMs: job.start_within_ms,
    deadlineMs: job.deadline_ms,
    uniqueKey: job.unique_key,
    unique: unique && { key: unique.key, until, lastsMs: forMs ?? atMostMs, replaces: replacing },
    debounce: debounce && { key: debounce.key, delayMs, longestMs, leading },
  };
}

const STEPS = {
  get(ctx, key) {
    const value = ctx.state.get(key);
    return value === undefined ? "absent" : { value };
  },
  set: (ctx, { key, value, length, ttl_ms: ttlMs }) => ok(ctx.state.set(key, length === undefined ? value : text(length), { ttlMs })),
  delete: (ctx, key) => ok(ctx.state.delete(key)),
  increment: (ctx, { key, by }) => ok(ctx.state.increment(key, by)),
  swap: (ctx, { key, expected, value, ttl_ms: ttlMs }) => ctx.state.compareAndSet(key, expected, value, { ttlMs }),
  enqueue(ctx, { kind, payload, length, ...job }) {
    ctx.enqueue(kind, length === undefined ? payload : text(length - 2), options(ctx, job));
    return "ok";
  },
  secret: (ctx, name) => ({ length: ctx.secret(name).expose().length }),
  env: (ctx, name) => ctx.env[name] ?? null,
  progress: (ctx, { done, total, message }) => ok(ctx.progress(done, total, message)),
  facts: (ctx) => ({
    attempt: ctx.attempt,
    max_attempts: ctx.maxAttempts,
    kind: ctx.kind,
    idempotency_key_is_job_id: ctx.idempotencyKey === ctx.jobId,
    stop_requested: ctx.stopRequested !== undefined,
    has_time_left: ctx.remainingMs > 0,
  }),
  job: (ctx) => ({
    group: ctx.group ?? null,
    labels: ctx.labels,
    content_type: ctx.contentType ?? null,
    has_deadline: ctx.jobDeadline > ctx.enqueuedAt,
  }),
  snooze: () => "ok",
  rate_limited: () => "ok",
  unavailable: () => "ok",
  async fetch(ctx, { method, path, url = ctx.env.WEB + path, body }) {
    const response = await fetch(url, { method, body, redirect: "manual" });
    return { status: response.status, body: await response.text() };
  },
  read: (ctx, path) => ctx.files.readText(path),
  write: (ctx, { path, text }) => ok(ctx.files.write(path, text)),
  list: (ctx, path) => ctx.files.list(path),
  remove: (ctx, path) => ok(ctx.files.remove(path)),
};

const OF_FILES = new Set(["read", "write", "list", "remove"]);

async function answer(ctx, name, argument) {
  try {
    return await STEPS[name](ctx, argument);
  } catch (error) {
    if (name === "fetch") return { refused: "http" };
    if (!(error instanceof HostError)) throw error;
    return { refused: OF_FILES.has(name) ? "file" : error.code };
  }
}
