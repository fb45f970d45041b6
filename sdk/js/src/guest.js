// The real host, as a component sees it, and what the component exports.
//
// The build command makes this the component's entry, together with the project's handlers.

import * as context from "sandhog:job/context@0.2.0";
import * as enqueue from "sandhog:job/enqueue@0.2.0";
import * as log from "sandhog:job/log@0.2.0";
import * as progress from "sandhog:job/progress@0.2.0";
import * as secrets from "sandhog:job/secrets@0.2.0";
import * as state from "sandhog:job/state@0.2.0";
import { getEnvironment } from "wasi:cli/environment@0.2.0";

import { toFailure } from "./failure.js";
import { requestsUnderWay } from "./guest-fetch.js";
import { files } from "./guest-files.js";
import { unhandledRejections } from "./guest-rejections.js";
import { dispatch } from "./handler.js";
import { HostError } from "./host-error.js";
import { mapped } from "./lines.js";

/** What the engine throws, as a text, where it finds no memory. */
const OUT_OF_MEMORY = "out of memory";

/** Of a stack, so many frames tell where it was. */
const FRAMES_MAX = 8;

/** Of the rejections that nobody handles, beside the one that is the failure, so many are told. */
const REJECTIONS_MAX = 8;

let payloadOfJob;

export async function handle(job) {
  payloadOfJob = job.payload;
  let end = await dispatch(host, job);
  if (end.thrown !== OUT_OF_MEMORY) {
    await turn();
    const rejected = unhandledRejections();
    // Most jobs forget nothing, and pay for no more.
    if (rejected.length > 0 || requestsUnderWay > 0) end = withForgotten(end, await reasonsOf(rejected));
  }
  const { output, failure, thrown } = end;
  if (failure === undefined) return output;
  if (thrown === OUT_OF_MEMORY) {
    // No failure to be tried again: what isn't one of the contract ends the run, and the host knows why.
    throw thrown;
  }
  logStack(thrown);
  throw toWit(failure);
}

function toWit({ message, permanent, code, retryAfterMs, putOff }) {
  if (putOff?.why === "snoozed") return { tag: "snoozed", val: millis(putOff.ms) };
  if (putOff !== undefined) return { tag: putOff.why, val: { downstream: putOff.downstream, afterMs: millis(putOff.ms) } };
  return permanent ? { tag: "permanent", val: message } : { tag: "transient", val: { message, code, retryAfterMs: millis(retryAfterMs) } };
}

/**
 * The end of a run with what its handler has forgotten. A rejection that nobody handles is a failure of the handler, as it
 * would end a program of Node.
 */
function withForgotten(end, reasons) {
  if (end.failure === undefined && reasons.length > 0) {
    const thrown = reasons.shift();
    end = { failure: unhandled(thrown), thrown };
  } else if (end.failure === undefined) {
    const message = "the handler returned before there was a response to a request, which is dropped: is an `await` missing?";
    log.write("warn", message, [["requests", String(requestsUnderWay)]]);
  }
  for (const reason of reasons.slice(0, REJECTIONS_MAX)) log.write("warn", unhandled(reason).message, []);
  return end;
}

const reasonsOf = (rejected) => Promise.all(rejected.map((promise) => promise.catch((reason) => reason)));

/** Waits until all has run that needn't wait for anything. */
const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

function unhandled(reason) {
  const failure = toFailure(reason);
  failure.message = `unhandled rejection: ${failure.message}`;
  return failure;
}

// Where an error came from is seen nowhere else; a failure that the handler chose has said all.
function logStack(thrown) {
  if (thrown instanceof Error && thrown.name !== "Failure" && thrown.name !== "HostError") {
    const stack = (thrown.stack ?? "").trim().split("\n").slice(0, FRAMES_MAX).join("\n");
    log.write("error", `${thrown.name}: ${thrown.message}`, [["stack", mapped(stack)]]);
  }
}

const host = {
  attemptInfo() {
    const info = context.attemptInfo();
    return { ...info, deadlineMs: Number(info.deadlineMs) };
  },
  jobInfo() {
    const { enqueuedAtMs, deadlineMs, ...job } = context.jobInfo();
    return { ...job, enqueuedAtMs: Number(enqueuedAtMs), deadlineMs: deadlineMs === undefined ? undefined : Number(deadlineMs) };
  },
  remainingMs: () => Number(context.remainingMs()),
  stopRequested: () => context.stopRequested(),
  log: (level, message, fields) => log.write(level, message, fields),
  report: (done, total, message) => progress.report(count(done), total === undefined ? undefined : count(total), message),
  enqueue: ({ start, startWithinMs, deadlineMs, unique, ...job }) =>
    asked(() =>
      enqueue.enqueue({
        ...job,
        start: { tag: start.tag, val: millis(start.val) },
        startWithinMs: millis(startWithinMs),
        deadlineMs: millis(deadlineMs),
        unique: unique && { key: unique.key, rule: ruleToWit(unique.rule) },
      }),
    ),
  secret: (name) => asked(() => secrets.get(name)),
  env: () => Object.fromEntries(getEnvironment()),
  state: {
    get: (key) => asked(() => state.get(key)),
    set: (key, value, ttlMs) => asked(() => state.set(key, value, millis(ttlMs))),
    delete: (key) => asked(() => state.delete(key)),
    increment: (key, by) => asked(() => (by < 0n ? asUnsigned(() => state.increment(key, by)) : state.increment(key, by))),
    compareAndSet: (key, expected, value, ttlMs) =>
      asked(() => state.compareAndSet(key, expected, value, millis(ttlMs))) === "yes",
  },
  files,
};

const ruleToWit = ({ tag, val }) =>
  tag === "hold"
    ? { tag, val: { ...val, lastsMs: millis(val.lastsMs) } }
    : { tag, val: { ...val, delayMs: millis(val.delayMs), longestMs: millis(val.longestMs) } };

/** A refusal of the host as an error that a handler can look at. */
function asked(call) {
  try {
    return call();
  } catch (error) {
    const refusal = error?.payload;
    if (refusal?.tag === undefined) throw error;
    throw new HostError(refusal.tag, refusal.val ?? "not an integer, or past the range of 64 bits");
  }
}

/**
 * Hands numbers of 64 bits to the host as unsigned ones, of the same bits: what componentize-js 0.23 makes of a negative one ends
 * the run. Its bindings have a realm of their own, with a `BigInt` of their own.
 */
function asUnsigned(call) {
  const theirs = payloadOfJob.constructor.constructor("return BigInt")();
  const { asIntN } = theirs;
  theirs.asIntN = theirs.asUintN;
  try {
    return call();
  } finally {
    theirs.asIntN = asIntN;
  }
}

const millis = (ms) => (ms === undefined ? undefined : BigInt(ms));

const count = (number) => BigInt(Math.trunc(number));
