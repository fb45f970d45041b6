// BullMQ: a producer and a worker, as their guide has them.

import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { Queue, Worker } from "bullmq";

import { place, say, secondsSince, serve } from "./peer.js";
import processor from "./processor.js";

const BATCH = 1000;
/** How long before their neighbours the hogs come, in milliseconds. */
const HEAD_START = 1000;
/** How often somebody asks whether all is done, in milliseconds. */
const LOOK = 200;

const { version } = createRequire(import.meta.url)("bullmq/package.json");
const { url, queue: name } = place();
const { hostname: host, port } = new URL(url);
// The guide asks for the retries of a worker's connection to be without a limit.
const connection = { host, port: Number(port), maxRetriesPerRequest: null };
const queue = new Queue(name, { connection });

async function enqueue({ jobs }) {
  const start = performance.now();
  for (let first = 0; first < jobs; first += BATCH) {
    const count = Math.min(BATCH, jobs - first);
    await queue.addBulk(Array.from({ length: count }, (_, n) => ({ name: "echo", data: { n: first + n } })));
  }
  return { seconds: secondsSince(start) };
}

/** A worker that is connected, and waits to be run. Its processors run in child processes if they are sandboxed. */
async function connected(processor, concurrency) {
  const worker = new Worker(name, processor, { connection, concurrency, autorun: false });
  worker.on("error", (error) => console.error(error));
  await worker.waitUntilReady();
  return worker;
}

/** What a worker is made with. */
function processorOf({ sandboxed }) {
  return sandboxed ? new URL("./processor.js", import.meta.url) : processor;
}

async function work({ jobs, concurrency, sandboxed }) {
  const worker = await connected(processorOf({ sandboxed }), concurrency);
  // The event comes once Redis has acknowledged that the job is completed.
  const settled = new Promise((resolve) => {
    let left = jobs;
    worker.on("completed", () => --left === 0 && resolve());
  });
  say({ working: true });
  const start = performance.now();
  const running = worker.run();
  await settled;
  const seconds = secondsSince(start);
  await worker.close();
  await running;
  return { seconds };
}

/** Adds one job every so often while a worker works, and says of each how long it took. */
async function latency({ jobs, every_us, concurrency }) {
  const [added, started, settled] = [0, 0, 0].map(() => new Float64Array(jobs));
  const worker = await connected(async (job) => {
    started[job.data.n] = performance.now();
    return job.data;
  }, concurrency);
  const all = new Promise((resolve) => {
    let left = jobs;
    worker.on("completed", (job) => {
      settled[job.data.n] = performance.now();
      --left === 0 && resolve();
    });
  });
  const running = worker.run();
  await everySoOften(jobs, every_us, (n) => {
    added[n] = performance.now();
    return queue.add("echo", { n });
  });
  await all;
  await worker.close();
  await running;
  const since = (times) => Array.from(times, (time, n) => Math.round((time - added[n]) * 1000));
  return { start_us: since(started), settled_us: since(settled) };
}

/** Begins one of so many things every so often, whatever becomes of those before it; ends with the last. */
async function everySoOften(count, everyUs, begin) {
  const start = performance.now();
  const under_way = [];
  while (under_way.length < count) {
    const due = start + (under_way.length * everyUs) / 1000;
    const wait = due - performance.now();
    // Timers are good for a millisecond.
    if (wait > 0) await sleep(Math.max(wait, 1));
    else under_way.push(begin(under_way.length));
  }
  await Promise.all(under_way);
}

/** Works until this program ends. */
async function attend({ concurrency, sandboxed }) {
  const worker = await connected(processorOf({ sandboxed }), concurrency);
  worker.run();
  return { working: true };
}

/** Adds hogs, and once they have begun, one quick job every so often; says what became of the quick ones. */
async function neighbours({ hogs, spin_ms, jobs, every_us }) {
  await queue.addBulk(Array.from({ length: hogs }, () => ({ name: "spin", data: { ms: spin_ms } })));
  if (hogs > 0) await sleep(HEAD_START);
  const ids = [];
  await everySoOften(jobs, every_us, async (n) => ids.push((await queue.add("echo", { n })).id));
  let quick;
  do {
    await sleep(LOOK);
    quick = await Promise.all(ids.map((id) => queue.getJob(id)));
  } while (quick.some((job) => !job.finishedOn));
  return {
    took_ms: quick.map((job) => job.finishedOn - job.timestamp),
    run_twice: quick.filter((job) => job.attemptsStarted > 1).length,
  };
}

await queue.waitUntilReady();
await serve("bullmq", version, { attend, enqueue, latency, neighbours, work });
await queue.close();
