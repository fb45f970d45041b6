// The promises of the real host that the fake one keeps.

import assert from "node:assert/strict";
import { test } from "node:test";

import { HostError, handler, permanent, rateLimited, retryAfter, transient, unavailable } from "../src/index.js";
import { FakeHost, assertEnqueued, assertNotEnqueued } from "../src/testing.js";

const MINUTE = 60_000;

const send = handler("mail.send", (_, to) => {
  if (to === "never") throw permanent("no such address");
  return to;
});

const code = (call) => {
  try {
    return call();
  } catch (error) {
    return error instanceof HostError ? error.code : error.name;
  }
};

let kinds = 0;
const run = (host, work) => host.run(handler(`work.${++kinds}`, work), null);

test("an increment meets what is stored only when it is written", async () => {
  const host = new FakeHost({ state: { text: "x" } });
  const { failure } = await run(host, ({ state }) => {
    state.increment("text");
    state.set("beside", 1);
    assert.equal(code(() => state.get("text")), "not-a-number", "whoever looks is told");
  });
  assert.match(failure.message, /state `text` was changed/);
  assert.deepEqual([failure.permanent, host.stored("beside")], [false, undefined], "all of it is written, or nothing");
});

test("a stored null is not the same as nothing", async () => {
  const host = new FakeHost({ state: { owner: null } });
  const swaps = await run(host, ({ state }) => [state.compareAndSet("owner", undefined, "ann"), state.compareAndSet("owner", null, "ann")]);
  assert.deepEqual(swaps.output, [false, true]);
});

test("a unique key is free as soon as its job is final", async () => {
  for (const [payload, state] of [["ann", "succeeded"], ["never", "dead"], ["ann", "cancelled"]]) {
    const host = new FakeHost();
    const first = host.enqueue("mail.send", payload, { uniqueKey: "k" });
    assert.equal(host.enqueue("mail.send", payload, { uniqueKey: "k" }), first, "it is held");
    if (state === "cancelled") host.cancel(first);
    else await host.drain([send]);
    assert.equal(host.jobs[0].state, state);
    assert.notEqual(host.enqueue("mail.send", payload, { uniqueKey: "k" }), first, `${state}: it is free`);
  }
});

test("a job may enqueue its successor under its own unique key", async () => {
  const options = { uniqueKey: "one", delayMs: MINUTE };
  const cleanUp = handler("clean.up", (ctx) => ctx.enqueue("clean.up", null, options));
  const host = new FakeHost();
  host.enqueue("clean.up", null, { uniqueKey: "one" });
  const attempts = await host.drain([cleanUp], { forMs: 2 * MINUTE });
  assert.deepEqual(attempts.map(({ atMs }) => atMs), [0, MINUTE, 2 * MINUTE]);
});

test("each run is one of a job of its own", async () => {
  const host = new FakeHost();
  const ids = [];
  for (const fails of [false, true, false]) {
    await run(host, (ctx) => {
      assert.equal(ctx.jobId, ctx.idempotencyKey);
      ids.push(ctx.jobId);
      ctx.enqueue("mail.send", "ann");
      if (fails) throw permanent("no");
    });
  }
  assert.equal(new Set([...ids, ...host.jobs.map(({ id }) => id)]).size, 5, "no id is given twice");
});

test("time that goes by in a run is what is left of it less", async () => {
  const host = new FakeHost({ remainingMs: MINUTE });
  const first = await run(host, (ctx) => {
    ctx.state.set("brief", 1, { ttlMs: MINUTE });
    host.advance(MINUTE / 4);
    return [ctx.remainingMs, ctx.deadline - new Date(1_750_000_000_000)];
  });
  assert.deepEqual(first.output, [(MINUTE * 3) / 4, MINUTE]);
  const late = await run(host, (ctx) => {
    ctx.state.set("late", 1);
    host.advance(2 * MINUTE);
    return ctx.remainingMs;
  });
  assert.match(late.failure.message, /timed out/);
  assert.deepEqual([late.output, late.failure.permanent, host.stored("late")], [undefined, false, undefined]);
});

test("what waits is run with retries as time goes on", async () => {
  const place = handler("order.place", (ctx, fails) => {
    ctx.state.increment("tried");
    if (ctx.attempt <= fails) throw transient("not yet");
    ctx.enqueue("mail.send", "ann", { delayMs: MINUTE, queue: "mails" });
    return ctx.attempt;
  });
  const host = new FakeHost();
  host.enqueue("order.place", 2);
  const attempts = await host.drain([place, send]);
  assert.deepEqual(
    attempts.map(({ job, atMs, run }) => [job.kind, job.attempts, atMs, run.output]),
    [["order.place", 1, 0, undefined], ["order.place", 2, 2000, undefined], ["order.place", 3, 6000, 3], ["mail.send", 1, 66000, "ann"]],
  );
  assert.equal(host.stored("tried"), 1, "what failed has written nothing");
  assert.deepEqual(await host.drain([place, send]), [], "nothing is left");
});

test("a job that fails too often or for good is dead, and one that nobody handles waits", async () => {
  const late = handler("always.late", () => {
    throw retryAfter(MINUTE, "later");
  });
  const host = new FakeHost({ maxAttempts: 3 });
  host.enqueue("always.late", null);
  host.enqueue("mail.send", "never");
  host.enqueue("nobody.handles", null, { queue: "aside" });
  const attempts = await host.drain([late, send]);
  const times = attempts.filter(({ job }) => job.kind === "always.late").map(({ atMs }) => atMs);
  assert.deepEqual(times, [0, MINUTE, 2 * MINUTE]);
  assert.deepEqual(host.jobs.map(({ state, attempts }) => [state, attempts]), [["dead", 3], ["dead", 1], ["waiting", 0]]);
});

test("what is due runs by priority and then by age", async () => {
  const host = new FakeHost();
  for (const [text, priority, delayMs] of [["first", 100, 0], ["second", 100, 0], ["urgent", 200, 0], ["later", 255, 9]]) {
    host.enqueue("mail.send", text, { priority, delayMs });
  }
  const attempts = await host.drain([send]);
  assert.deepEqual(attempts.map(({ job }) => job.payload), ["urgent", "first", "second", "later"]);
});

test("jobs without end are found", async () => {
  const endless = handler("endless.chain", (ctx) => ctx.enqueue("endless.chain", null));
  const host = new FakeHost();
  host.enqueue("endless.chain", null);
  await assert.rejects(host.drain([endless]), /do they enqueue each other without end\?/);
});

test("an assertion on what was enqueued lists it", async () => {
  const host = new FakeHost();
  const ran = await run(host, (ctx) => {
    ctx.enqueue("mail.send", { to: "ann", tags: ["a", "b"] }, { delayMs: MINUTE, uniqueKey: "welcome ann" });
    ctx.enqueue("sms.send", "hi", { queue: "slow", priority: 7 });
  });
  assert.equal(assertEnqueued(ran, "mail.send", { to: "ann" }).delayMs, MINUTE);
  assertEnqueued(host, "mail.send", { tags: ["a", "b"] });
  assertEnqueued(host, "sms.send", (text) => text.startsWith("h"));
  assertNotEnqueued(ran, "mail.send", { tags: ["a"] });
  assertNotEnqueued(ran, "push.send");
  assert.throws(() => assertEnqueued(ran, "mail.send", { to: "bob" }), (error) => {
    assert.equal(error.code, "ERR_ASSERTION");
    for (const part of [
      'no job of kind `mail.send` was enqueued with a payload like {"to":"bob"}',
      'mail.send {"to":"ann","tags":["a","b"]}, after 60000 ms, unique key "welcome ann"',
      'sms.send "hi", queue slow, priority 7',
    ]) {
      assert.ok(error.message.includes(part), error.message);
    }
    return true;
  });
  assert.throws(() => assertNotEnqueued(ran, "sms.send"), /sms.send "hi"/);
});

test("limits are those of a plugin that sets none unless the test does", async () => {
  const host = new FakeHost();
  const copes = await run(host, (ctx) => {
    ctx.enqueue("mail.send", new Uint8Array(10 << 10));
    assert.equal(code(() => ctx.enqueue("mail.send", new Uint8Array((10 << 10) + 1))), "limit");
  });
  assert.deepEqual([copes.failure, copes.enqueued.length], [undefined, 1], "whoever copes succeeds");
  const limits = { enqueues: 1, stateWrites: 1, effects: 100, output: 10 };
  for (const [says, work] of [
    [/limits.enqueues/, (ctx) => [1, 2].map((one) => ctx.enqueue("mail.send", one))],
    [/limits.state_writes/, ({ state }) => ["a", "b"].map((key) => state.set(key, 1))],
    [/limits.effects/, ({ state }) => void code(() => state.set("a", "x".repeat(100)))],
    [/limits.output/, () => "x".repeat(10)],
  ]) {
    const { failure } = await run(new FakeHost({ limits }), work);
    assert.ok(failure?.permanent, String(says));
    assert.match(failure.message, says);
  }
});

test("a name that the contract has not is refused", async () => {
  const { failure, output } = await run(new FakeHost(), (ctx) => [
    code(() => ctx.enqueue("Mail", 1)),
    code(() => ctx.enqueue("mail.send", 1, { queue: "" })),
    code(() => ctx.enqueue("mail.send", 1, { uniqueKey: "k".repeat(257) })),
    code(() => ctx.enqueue("mail.send", 1, { uniqueKey: "a\nb" })),
  ]);
  assert.deepEqual([failure, output], [undefined, ["invalid", "invalid", "invalid", "invalid"]]);
});

test("files are found where they are granted and nowhere else, and are written at once", async () => {
  const host = new FakeHost({ files: { "/in/deep/a.csv": "1,2" }, dirs: ["/out"] });
  const { output, failure } = await run(host, ({ files }) => {
    files.write("/out/b.csv", files.read("/in/deep/a.csv"));
    return [
      files.list("/out"),
      files.readText("/in/deep/./a.csv"),
      ...["/elsewhere/a", "/in/a", "/etc/passwd"].map((path) => code(() => files.read(path))),
      code(() => files.read("/out/../etc/passwd")),
      code(() => files.read("/out/none")),
      code(() => files.read("/out")),
      code(() => files.write("/out/no/such/folder", "x")),
      code(() => files.list("/out/b.csv")),
      code(() => files.remove("/out/none")),
    ];
  });
  assert.equal(failure, undefined);
  assert.deepEqual(output, [
    ["b.csv"], "1,2",
    "not-granted", "not-granted", "not-granted", "not-permitted", "no-entry", "is-directory", "no-entry", "not-directory", "no-entry",
  ]);
  const failed = await run(host, ({ files }) => {
    files.write("/out/b.csv", "3");
    throw permanent("no");
  });
  assert.equal(failed.failure.message, "no");
  assert.deepEqual(host.file("/out/b.csv"), new TextEncoder().encode("3"));
});

test("fetch finds what is in the table, and is refused what isn't", async () => {
  let asked = 0;
  const host = new FakeHost({
    secrets: { TOKEN: "hunter2" },
    http: {
      "GET https://api.example/a": { json: { a: 1 }, headers: { "x-one": "1" } },
      "GET https://api.example/*": [{ status: 503 }, { body: "then" }],
      "POST https://api.example/echo": ({ headers, body }) => ({ status: 201, body: `${headers["x-id"]} ${new TextDecoder().decode(body)} ${++asked}` }),
      "* https://down.example/*": { error: "connection refused" },
      "DELETE https://api.example/a": { status: 204 },
    },
  });
  const ran = await run(host, async (ctx) => {
    const got = await fetch("https://api.example/a", { headers: { authorization: ctx.secret("TOKEN").expose() } });
    const replies = [];
    for (let n = 0; n < 3; n++) replies.push(await (await fetch("https://api.example/b?q=1")).text());
    const posted = await fetch("https://api.example/echo", { method: "POST", body: "hi", headers: { "X-Id": "7" } });
    const deleted = await fetch("https://api.example/a", { method: "DELETE" });
    const refused = [];
    for (const url of ["https://down.example/", "https://other.example/"]) await fetch(url).catch((error) => refused.push(error.message));
    return [await got.json(), got.headers.get("x-one"), got.url, replies, posted.status, await posted.text(), deleted.status, refused];
  });
  assert.equal(ran.failure, undefined);
  assert.deepEqual(ran.output.slice(0, 7), [{ a: 1 }, "1", "https://api.example/a", ["", "then", "then"], 201, "7 hi 1", 204]);
  assert.match(ran.output[7][0], /connection refused/);
  assert.match(ran.output[7][1], /no reply to GET https:\/\/other.example\/: add it to its `http`/);
  assert.deepEqual(ran.requests.map(({ method, url }) => `${method} ${url}`).slice(0, 2), ["GET https://api.example/a", "GET https://api.example/b?q=1"]);
  assert.equal(ran.requests[0].headers.authorization, "hunter2");
});

test("runs at the same time find each its own table", async () => {
  const ask = handler("http.ask", async () => (await fetch("https://api.example/")).text());
  const hosts = ["a", "b", "c"].map((body) => new FakeHost({ http: { "GET https://api.example/": { body } } }));
  const runs = await Promise.all(hosts.map((host) => host.run(ask, null)));
  assert.deepEqual(runs.map(({ output }) => output), ["a", "b", "c"]);
});

const digest = handler("mail.digest", (_, number) => number);

test("one job stands for many events until none has come for a while or its longest wait is over", async () => {
  const host = new FakeHost();
  const event = (number) => host.enqueue("mail.digest", number, { debounce: { key: "k", delayMs: MINUTE, longestMs: 2 * MINUTE } });
  const first = event(1);
  for (const number of [2, 3]) {
    assert.deepEqual(await host.drain([digest], { forMs: (MINUTE * 3) / 4 }), [], "another one came in time");
    assert.equal(event(number), first);
  }
  const attempts = await host.drain([digest]);
  assert.deepEqual(attempts.map(({ atMs, run }) => [atMs, run.output]), [[MINUTE / 2, 3]]);
  assert.notEqual(event(4), first, "it has started: the next event makes another");
});

test("a key for a time is held whatever becomes of its job", async () => {
  const host = new FakeHost();
  const job = () => host.enqueue("mail.digest", 1, { unique: { key: "k", until: "over", lastsMs: MINUTE } });
  const first = job();
  await host.drain([digest]);
  assert.equal(job(), first);
  host.advance(MINUTE);
  assert.notEqual(job(), first);
});

test("what has not started in time is cancelled, and what is past its deadline is dead", async () => {
  const host = new FakeHost();
  for (const times of [{ startWithinMs: MINUTE }, { deadlineMs: MINUTE }, { startWithinMs: 2 * MINUTE, deadlineMs: 3 * MINUTE }]) {
    host.enqueue("mail.digest", 1, { delayMs: MINUTE, ...times });
  }
  host.advance(3 * MINUTE);
  await host.drain([digest]);
  assert.deepEqual(host.jobs.map(({ state }) => state), ["cancelled", "dead", "succeeded"]);
});

test("a job that is put off comes again with the same attempt, and has done nothing", async () => {
  const charge = handler("card.charge", (ctx) => {
    ctx.state.increment("tries");
    if (ctx.enqueuedAt.getTime() + MINUTE > ctx.deadline.getTime()) throw rateLimited(20_000);
  });
  const host = new FakeHost({ maxAttempts: 1, remainingMs: MINUTE / 2 });
  host.enqueue("card.charge", null);
  const attempts = await host.drain([charge]);
  assert.deepEqual(attempts.map(({ atMs }) => atMs), [0, 20_000, 40_000]);
  assert.deepEqual(attempts[0].run.failure.putOff, { why: "rate-limited", ms: 20_000 });
  assert.deepEqual([host.jobs[0].state, host.jobs[0].attempts, host.stored("tries")], ["succeeded", 1, 1]);
});

test("a job whose service is unavailable comes again with the same attempt", async () => {
  const refund = handler("card.refund", (ctx, ms) => {
    if (ctx.enqueuedAt.getTime() + MINUTE > ctx.deadline.getTime()) throw unavailable("stripe", ms ?? undefined);
  });
  for (const [ms, times] of [[null, [0, 10_000, 20_000, 30_000]], [12_000, [0, 12_000, 24_000, 36_000]]]) {
    const host = new FakeHost({ maxAttempts: 1, remainingMs: MINUTE / 2 });
    host.enqueue("card.refund", ms);
    const attempts = await host.drain([refund]);
    assert.deepEqual(attempts.map(({ atMs }) => atMs), times);
    assert.equal(attempts[0].run.failure.putOff.downstream, "stripe");
    assert.deepEqual([host.jobs[0].state, host.jobs[0].attempts], ["succeeded", 1]);
  }
  assert.equal(rateLimited(1, "stripe").putOff.downstream, "stripe");
});

test("a handler finds what its job was given", async () => {
  const host = new FakeHost({ group: "ann", labels: { env: "prod", a: "" }, contentType: "text/csv" });
  const { output, failure, enqueued } = await run(host, (ctx) => {
    ctx.enqueue("mail.digest", 1, { group: "bob", labels: { b: "2", a: "1" }, contentType: "text/plain", startWithinMs: 1, deadlineMs: 2 });
    return [ctx.group, Object.entries(ctx.labels), ctx.contentType, ctx.jobDeadline ?? null];
  });
  assert.equal(failure, undefined);
  assert.deepEqual(output, ["ann", [["a", ""], ["env", "prod"]], "text/csv", null]);
  const [{ group, labels, contentType, startWithinMs, deadlineMs }] = enqueued;
  assert.deepEqual([group, Object.entries(labels), contentType, startWithinMs, deadlineMs], ["bob", [["a", "1"], ["b", "2"]], "text/plain", 1, 2]);
});

test("options that rule each other out are refused", async () => {
  const { output, failure } = await run(new FakeHost(), (ctx) => [
    code(() => ctx.enqueue("mail.send", 1, { delayMs: 1, at: new Date() })),
    code(() => ctx.enqueue("mail.send", 1, { uniqueKey: "k", unique: { key: "k" } })),
    code(() => ctx.enqueue("mail.send", 1, { unique: { key: "k", until: "over" } })),
    code(() => ctx.enqueue("mail.send", 1, { labels: Object.fromEntries(Array.from({ length: 17 }, (_, n) => [`n${n}`, ""])) })),
  ]);
  assert.deepEqual([failure, output], [undefined, ["TypeError", "TypeError", "invalid", "invalid"]]);
});
