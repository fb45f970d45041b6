// What BullMQ's worker runs: in its own process, or in children of it.

/** Returns what it got; a hog uses the processor first, for so long. */
export default async function processor(job) {
  if (job.name === "spin") {
    const end = performance.now() + job.data.ms;
    while (performance.now() < end);
  }
  return job.data;
}
