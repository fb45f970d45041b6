// BullMQ: a producer and a worker, as their guide has them.

import { createRequire } from "node:module";
import { Queue, Worker } from "bullmq";

import { place, say, secondsSince, serve } from "./peer.js";

const BATCH = 1000;

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

async function work({ jobs, concurrency }) {
  const worker = new Worker(name, async (job) => job.data, { connection, concurrency, autorun: false });
  worker.on("error", (error) => console.error(error));
  await worker.waitUntilReady();
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

await queue.waitUntilReady();
await serve("bullmq", version, { enqueue, work });
await queue.close();
