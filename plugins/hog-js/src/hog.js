// Handlers that misbehave when told to, and some that do as little as can be: the kinds and inputs of `plugins/hog`, in
// JavaScript, so that the same tests hold for both.

import { handler, permanent, retryAfter } from "sandhog-sdk";

const MIB = 1 << 20;

/** Returns its payload: the least a job can do. */
export const echo = handler("hog.echo", (_, payload) => payload, { input: "bytes" });

/** Fails as it is told to, and returns the attempt that succeeded. */
export const fail = handler("hog.fail", (ctx, input) => {
  if (input === "permanent") throw permanent("was told to fail for good");
  const { transient, "retry-after": later } = input;
  const { attempts = Infinity } = transient ?? later;
  if (ctx.attempt > attempts) return ctx.attempt;
  if (later) throw retryAfter(later.ms, `attempt ${ctx.attempt} was told to come later`);
  throw new Error(`attempt ${ctx.attempt} was told to fail`);
});

/** Adds 1 to a counter in the state, once. */
export const count = handler("hog.count", (ctx, { counter }) => ctx.state.increment(counter), {
  input(input) {
    if (typeof input?.counter !== "string") throw new TypeError("`counter` is a text");
    return input;
  },
});

/** Compares and sets a number in the state. */
export const swap = handler("hog.swap", (ctx, { key, expected, value }) => ({
  swapped: ctx.state.compareAndSet(key, expected ?? undefined, value),
}));

/** Leaves a text wherever a handler can: in its state, log, progress, a further job and its output. */
export const note = handler("hog.note", (ctx, { text, fail = false }) => {
  ctx.log.info(text, { text });
  ctx.progress(1, 1, text);
  ctx.state.set("note", text);
  ctx.enqueue("hog.echo", text);
  if (fail) throw permanent(text);
  return text;
});

/** Enqueues jobs, and returns their ids. */
export const spawn = handler("hog.spawn", (ctx, { kind, count, payload = "", queue, unique_prefix: prefix }) => {
  const bytes = new TextEncoder().encode(payload);
  const key = (number) => (prefix === undefined ? undefined : `${prefix}${number}`);
  return Array.from({ length: count }, (_, number) => ctx.enqueue(kind, bytes, { queue, uniqueKey: key(number) }));
});

/** Returns how long a secret is, or why it can't be had. */
export const secret = handler("hog.secret", (ctx, { name }) => {
  try {
    return { bytes: new TextEncoder().encode(ctx.secret(name).expose()).length };
  } catch (error) {
    return { refused: error.message };
  }
});

/** Reads a file, and returns what is in it. */
export const read = handler("hog.read", (ctx, { path }) => {
  try {
    return ctx.files.read(path);
  } catch (error) {
    throw permanent(error.message);
  }
});

/** Gets a resource over HTTP, and returns its status and body. */
export const get = handler("hog.fetch", async (_, { url }) => {
  try {
    const response = await fetch(url);
    return { status: response.status, body: await response.text() };
  } catch (error) {
    throw permanent(error.message);
  }
});

/** Sends requests, and says what came of the last of them. */
export const exchange = handler("hog.exchange", async (_, { url, method = "GET", send, times = 1, unread = false }) => {
  const body = send === undefined ? undefined : new Uint8Array(send).fill(120);
  let received = 0;
  let last;
  for (let number = 0; number < times; number++) {
    try {
      const response = await fetch(url, { method, body });
      const bytes = unread ? new Uint8Array() : new Uint8Array(await response.arrayBuffer());
      received += bytes.length;
      const text = new TextDecoder().decode(bytes.subarray(0, 1000));
      last = { status: response.status, body: text, headers: [...response.headers], trailers: [] };
    } catch (error) {
      throw permanent(`request ${number}: ${error.message}`);
    }
  }
  return { ...last, received };
});

/** Uses the CPU, and returns the number that all the work was for. */
export const spin = handler("hog.spin", (_, { rounds = Infinity }) => {
  let number = 1;
  for (let round = 0; round < rounds; round++) number = (number * 48271) % 0x7fffffff;
  return number;
});

/** Takes memory, touches all of it, and returns how many bytes it held at the end. */
export const allocate = handler("hog.allocate", (_, { bytes = Infinity }) => {
  const held = [];
  while (held.length * MIB < bytes) held.push(new Uint8Array(MIB).fill(1));
  return held.length * MIB;
});

/** Calls itself, and returns a number that depends on every call. */
export const recurse = handler("hog.recurse", (_, { depth = Infinity }) => dive(0, depth));

const dive = (depth, depthMax) => (depth === depthMax ? 1 : (dive(depth + 1, depthMax) * 31 + depth) % 1_000_003);

/** Throws what is no error of anybody's making: the nearest that JavaScript has to a panic. */
export const panic = handler("hog.panic", (_, { message = "the hog was told to" }) => {
  throw new TypeError(message);
});

/** Returns garbage, which doesn't compress. */
export const output = handler("hog.output", (_, { bytes }) => {
  const garbage = new Uint8Array(bytes);
  // So much is had at a time, and no more.
  for (let at = 0; at < bytes; at += 65536) crypto.getRandomValues(garbage.subarray(at, at + 65536));
  return garbage;
});

let calls = 0;

/** Counts its calls where nothing lasts, and returns the count: 1, if every job gets an instance of its own. */
export const remember = handler("hog.remember", () => ++calls);

/** Writes log lines: with the context, and with the console every other time. */
export const log = handler("hog.log", (ctx, { lines = Infinity }) => {
  for (let line = 0; line < lines; line++) {
    if (line % 2) console.log("the hog has a lot to say");
    else ctx.log.info("the hog has a lot to say", { line });
  }
});

/** Waits without using the CPU. */
export const sleep = handler("hog.sleep", (_, { ms }) => new Promise((resolve) => setTimeout(resolve, ms)));

export { play } from "./play.js";
export { claim } from "./claims.js";
