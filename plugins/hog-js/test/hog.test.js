import assert from "node:assert/strict";
import { test } from "node:test";

import { FakeHost } from "sandhog-sdk/testing";

import * as hog from "../src/hog.js";

test("an echo is its payload", async () => {
  const payload = Uint8Array.of(0, 255, 1);
  assert.deepEqual((await new FakeHost().run(hog.echo, payload)).bytes, payload);
});

test("failing stops after the attempts it was told", async () => {
  const at = (attempt, payload) => new FakeHost({ attempt }).run(hog.fail, payload);
  const twice = { transient: { attempts: 2 } };
  assert.equal((await at(2, twice)).failure.message, "attempt 2 was told to fail");
  assert.equal((await at(3, twice)).output, 3);
  assert.equal((await at(1, { "retry-after": { ms: 500, attempts: 1 } })).failure.retryAfterMs, 500);
  assert.equal((await at(9, { transient: {} })).failure.permanent, false);
  assert.equal((await at(9, "permanent")).failure.permanent, true);
});

test("what misbehaves without end ends where it is told an end", async () => {
  const host = new FakeHost();
  const output = async (handler, payload) => (await host.run(handler, payload)).output;
  assert.equal(await output(hog.spin, { rounds: 3 }), 1291394886);
  assert.equal(await output(hog.allocate, { bytes: 1 }), 1 << 20);
  assert.equal(typeof (await output(hog.recurse, { depth: 10 })), "number");
  assert.equal((await host.run(hog.output, { bytes: 1000 })).bytes.length, 1000);
  assert.equal(await output(hog.sleep, { ms: 1 }), null);
  assert.equal((await host.run(hog.panic, {})).failure.message, "TypeError: the hog was told to");
});

test("state, jobs, secrets and files go through the host", async () => {
  const host = new FakeHost({ secrets: { TOKEN: "hunter2" }, files: { "/in/a": "hello" } });
  const run = async (handler, payload) => (await host.run(handler, payload)).output;
  await run(hog.count, { counter: "done" });
  await run(hog.count, { counter: "done" });
  assert.equal(host.stored("done"), 2);
  assert.deepEqual(await run(hog.swap, { key: "x", expected: null, value: 1 }), { swapped: true });
  assert.deepEqual(await run(hog.swap, { key: "x", expected: 2, value: 3 }), { swapped: false });
  const spawned = await host.run(hog.spawn, { kind: "hog.echo", count: 2, payload: "1" });
  assert.deepEqual(spawned.output, spawned.enqueued.map(({ id }) => id));
  assert.equal((await host.run(hog.note, { text: "hi", fail: true })).failure.message, "hi");
  assert.equal(host.stored("note"), undefined);
  assert.equal(await run(hog.note, { text: "hi" }), host.stored("note"));
  assert.deepEqual(await run(hog.secret, { name: "TOKEN" }), { bytes: 7 });
  assert.match((await run(hog.secret, { name: "OTHER" })).refused, /not granted/);
  const { bytes } = await host.run(hog.read, { path: "/in/a" });
  assert.equal(new TextDecoder().decode(bytes), "hello");
  assert.equal((await run(hog.remember, null)) + 1, await run(hog.remember, null));
  const { failure } = await host.run(hog.read, { path: "/etc/passwd" });
  assert.match(failure.message, /is not granted; add it to `dirs`/);
});
