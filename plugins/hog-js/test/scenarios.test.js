// The host scenarios of `sdk/scenarios`, played against the fake host.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { FakeHost } from "sandhog-sdk/testing";

import { play } from "../src/hog.js";

const scenarios = JSON.parse(readFileSync(new URL("../../../sdk/scenarios/host.json", import.meta.url)));

const WEB = "http://web.example";

function hostOf({ max_attempts: maxAttempts = 5, limits: { state_writes: stateWrites, ...limits } = {}, http = {}, env, ...given } = {}) {
  const ofState = stateWrites === undefined ? {} : { stateWrites };
  const replies = Object.fromEntries(Object.entries(http).map(([request, reply]) => [request.replace(" ", ` ${WEB}`), reply]));
  const surroundings = { env: { WEB, ...env }, http: replies, ...given };
  return new FakeHost({ maxAttempts, unknownKinds: ["no.such"], limits: { ...limits, ...ofState }, ...surroundings });
}

/** What a job has beside the usual is there only if it has it. */
function described({ kind, payload, queue, delayMs, priority, uniqueKey = null, state, ...job }) {
  const { group, contentType: content_type, startWithinMs: start_within_ms, deadlineMs: deadline_ms } = job;
  const labels = Object.keys(job.labels).length === 0 ? undefined : job.labels;
  const unusual = Object.entries({ group, content_type, labels, start_within_ms, deadline_ms }).filter(([, value]) => value !== undefined);
  return { kind, payload, queue, delayed: delayMs > 0, priority, unique_key: uniqueKey, state, ...Object.fromEntries(unusual) };
}

async function playJob(host, given, attempts, expect) {
  const { group, labels, content_type: contentType, deadline_ms: deadlineMs } = given;
  const id = host.enqueue("hog.play", { attempts }, { group, labels, contentType, deadlineMs });
  const drained = await host.drain([play]);
  const job = host.jobs.find((job) => job.id === id);
  const { run } = drained.at(-1);
  assert.deepEqual([job.state, job.attempts], [expect.state, expect.attempts], run.failure?.message);
  if (expect.message !== undefined) assert.ok(run.failure.message.includes(expect.message), run.failure.message);
  const answersOf = ({ logs }) => logs.filter(({ message }) => message === "answer").map(({ fields }) => JSON.parse(fields.answer));
  if (expect.answers !== undefined) assert.deepEqual(drained.map(({ run }) => answersOf(run)), expect.answers);
  if (expect.progress !== undefined) assert.deepEqual({ ...run.progress.at(-1) }, expect.progress);
  for (const [key, wanted] of Object.entries(expect.stored ?? {})) {
    const value = host.stored(key);
    assert.deepEqual(value === undefined ? "absent" : { value }, wanted, key);
  }
  for (const [path, text] of Object.entries(expect.files ?? {})) assert.equal(new TextDecoder().decode(host.file(path)), text);
  if (expect.jobs !== undefined) {
    const others = host.jobs.filter(({ kind }) => kind !== "hog.play");
    assert.deepEqual(others.map(described), expect.jobs);
  }
}

assert.ok(scenarios.length > 0);
for (const { name, host: given, play: acts } of scenarios) {
  test(name, async () => {
    const host = hostOf(given);
    for (const { cancel, job = {}, attempts, expect } of acts) {
      if (cancel === undefined) await playJob(host, job, attempts, expect);
      else host.cancel(host.jobs.find(({ uniqueKey, state }) => uniqueKey === cancel && state === "waiting").id);
    }
  });
}
