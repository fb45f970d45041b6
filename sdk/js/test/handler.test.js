import assert from "node:assert/strict";
import { test } from "node:test";

import { inspect } from "node:util";

import { Failure, HostError, Secret, handler, permanent, retryAfter, transient } from "../src/index.js";
import { dispatch } from "../src/handler.js";
import { FakeHost } from "../src/testing.js";

const greet = handler("greet.hello", (ctx, { name }) => {
  ctx.state.increment("greeted");
  ctx.log.info("greeting", { attempt: ctx.attempt, who: { name } });
  ctx.progress(1, 2, "half");
  if (name === "") throw permanent("whom to greet?");
  return { greeting: `hello, ${name}` };
});

test("what a handler returns is the output, and what it wrote is stored", async () => {
  const host = new FakeHost({ attempt: 2, state: { greeted: 41 } });
  const run = await host.run(greet, { name: "Ann" });
  assert.deepEqual(run.output, { greeting: "hello, Ann" });
  assert.deepEqual(run.logs, [{ level: "info", message: "greeting", fields: { attempt: "2", who: '{"name":"Ann"}' } }]);
  assert.deepEqual(run.progress, [{ done: 1, total: 2, message: "half" }]);
  assert.equal(host.stored("greeted"), 42);
});

test("a failure writes nothing, and says what it means", async () => {
  const host = new FakeHost({ state: { greeted: 41 } });
  const run = await host.run(greet, { name: "" });
  assert.ok(run.failure instanceof Failure && run.failure.permanent);
  assert.equal(run.failure.message, "whom to greet?");
  assert.deepEqual([run.output, run.enqueued, host.stored("greeted")], [undefined, [], 41]);
});

test("any other error means that the job is tried again, and tells its causes", async () => {
  const cases = [
    [() => { throw new Error("load the list", { cause: new TypeError("no list") }); }, "load the list: TypeError: no list", undefined],
    [() => { throw retryAfter(1500, "not yet"); }, "not yet", 1500],
    [() => { throw transient("reset", { cause: new Error("by peer") }); }, "reset: by peer", undefined],
    [async () => { throw "a text"; }, "a text", undefined],
    [() => Promise.reject(new RangeError("too far")), "RangeError: too far", undefined],
    [() => { throw undefined; }, "undefined", undefined],
  ];
  for (const [at, [run, message, wait]] of cases.entries()) {
    const { failure } = await new FakeHost().run(handler(`failing.${at}`, run), null);
    assert.deepEqual([failure.message, failure.permanent, failure.retryAfterMs], [message, false, wait]);
  }
  assert.throws(() => retryAfter(Number.NaN, "x"), RangeError);
});

test("a payload or output that can't be is not tried again, and isn't shown", async () => {
  const host = new FakeHost();
  const malformed = await host.run(greet, new TextEncoder().encode('{"name":\n hunter2}'));
  assert.ok(malformed.failure.permanent);
  assert.match(malformed.failure.message, /^the payload is no input of `greet.hello`: SyntaxError: not JSON/);
  assert.doesNotMatch(malformed.failure.message, /hunter2/);
  const binary = await host.run(greet, Uint8Array.of(0xff));
  assert.match(binary.failure.message, /not UTF-8/);
  const endless = handler("endless", () => { const self = {}; self.self = self; return self; });
  assert.match((await host.run(endless, null)).failure.message, /the output of `endless` has no JSON form/);
});

test("a promise is no value: an await is missing", async () => {
  const host = new FakeHost({ state: { text: "before" } });
  const uses = [
    () => ({ list: [Promise.resolve(1)] }),
    (ctx) => ctx.state.set("text", { text: Promise.resolve("after") }),
    (ctx) => ctx.enqueue("mail.send", { to: Promise.resolve("ann@example.org") }),
  ];
  for (const [at, use] of uses.entries()) {
    const { failure } = await host.run(handler(`promise.${at}`, use), null);
    assert.match(failure.message, /a promise has no JSON form: is an `await` missing\?$/);
  }
  assert.deepEqual([host.stored("text"), host.jobs], ["before", []]);
  assert.equal(JSON.stringify([Promise.resolve()]), "[{}]", "elsewhere it has the form that it has always had");
});

test("an input may be parsed, or be bytes", async () => {
  const order = handler("order", (_, { cents }) => cents, {
    input(value) {
      if (!Number.isInteger(value?.cents)) throw new TypeError("`cents` is a whole number");
      return value;
    },
  });
  assert.equal((await new FakeHost().run(order, { cents: 5 })).output, 5);
  const bad = await new FakeHost().run(order, { cents: "5" });
  assert.ok(bad.failure.permanent);
  assert.match(bad.failure.message, /`cents` is a whole number/);
  const reverse = handler("reverse", async (_, bytes) => bytes.reverse(), { input: "bytes" });
  assert.deepEqual((await new FakeHost().run(reverse, Uint8Array.of(1, 2, 3))).bytes, Uint8Array.of(3, 2, 1));
});

test("a component says which kinds it has", async () => {
  const { failure } = await dispatch({}, { id: "1", kind: "greet.bye", payload: new Uint8Array() });
  assert.ok(failure.permanent);
  assert.match(failure.message, /no handler of `greet.bye`, only of `greet.hello`/);
  assert.throws(() => handler("greet.hello", () => {}), /two handlers/);
  assert.throws(() => handler("", () => {}), TypeError);
  assert.throws(() => handler("no.function"), TypeError);
});

test("a context tells what the host knows", async () => {
  const facts = handler("facts", (ctx) => [
    ctx.jobId, ctx.kind, ctx.tenant, ctx.queue, ctx.attempt, ctx.maxAttempts, ctx.idempotencyKey, ctx.remainingMs, ctx.stopRequested, ctx.env.MODE,
    ctx.deadline - new Date(1_750_000_000_000),
  ]);
  const host = new FakeHost({ tenant: "globex", queue: "slow", attempt: 3, maxAttempts: 4, remainingMs: 5000, stopRequested: "draining", env: { MODE: "dry" }, jobId: "01J" });
  assert.deepEqual((await host.run(facts, null)).output, ["01J", "facts", "globex", "slow", 3, 4, "01J", 5000, "draining", "dry", 5000]);
});

test("state reads what the run wrote, and lasts from run to run", async () => {
  const host = new FakeHost({ state: { text: "hello" } });
  const use = async (kind, work) => (await host.run(handler(kind, work), null)).output;
  assert.deepEqual(
    await use("state.1", ({ state }) => {
      state.set("raw", Uint8Array.of(0xff));
      state.set("brief", { a: 1 }, { ttlMs: 1000 });
      state.increment("n", 5n);
      state.increment("n", -2);
      state.delete("text");
      return [state.get("text") ?? null, state.get("n"), state.get("brief"), state.getBytes("raw").length];
    }),
    [null, 3, { a: 1 }, 1],
  );
  host.advance(1000);
  assert.equal(host.stored("brief"), undefined);
  assert.deepEqual(
    await use("state.2", ({ state }) => [state.compareAndSet("n", 4, 5), state.compareAndSet("n", 3, 4), state.compareAndSet("new", undefined, 1), state.get("n")]),
    [false, true, true, 4],
  );
});

test("a refusal has a code that a handler can look at", async () => {
  const host = new FakeHost({ state: { text: "hello", big: 9223372036854775807n.toString() }, unknownKinds: ["no.such"] });
  const codes = handler("codes", (ctx) => {
    const code = (call) => {
      try {
        return call();
      } catch (error) {
        return error instanceof HostError ? error.code : error.name;
      }
    };
    return [
      code(() => ctx.secret("TOKEN")),
      code(() => (ctx.state.set("word", "x"), ctx.state.increment("word"))),
      code(() => ctx.state.get("")),
      code(() => ctx.state.increment("n", 0.5)),
      code(() => ctx.enqueue("no.such", 1)),
      code(() => ctx.enqueue("any", 1, { priority: 256 })),
      code(() => ctx.files.read("/in/a")),
    ];
  });
  const expected = ["not-granted", "not-a-number", "invalid-key", "RangeError", "unknown-kind", "RangeError", "not-granted"];
  assert.deepEqual((await host.run(codes, null)).output, expected);
  const failing = await new FakeHost({ stateUnavailable: "the store is away" }).run(handler("away", (ctx) => ctx.state.get("x")), null);
  assert.deepEqual([failing.failure.message, failing.failure.permanent], ["the store is away", false]);
});

test("numbers that the contract has not are refused", async () => {
  const ranges = handler("ranges", (ctx) => {
    assert.throws(() => ctx.state.increment("n", 2n ** 63n), RangeError);
    assert.throws(() => ctx.state.set("n", 1, { ttlMs: -1 }), RangeError);
    assert.throws(() => ctx.enqueue("x.y", 1, { delayMs: Number.NaN }), RangeError);
    assert.throws(() => ctx.enqueue("x.y", 1, { priority: 1.5 }), RangeError);
    assert.throws(() => ctx.progress(-1), RangeError);
  });
  assert.equal((await new FakeHost().run(ranges, null)).failure, undefined);
});

test("a job with a unique key is enqueued once", async () => {
  const host = new FakeHost();
  const welcome = handler("welcome", (ctx, user) => ctx.enqueue("mail.send", { user }, { uniqueKey: `welcome ${user}`, delayMs: 10, queue: "mail" }));
  const first = await host.run(welcome, "ann");
  await host.run(welcome, "ann");
  await host.run(welcome, "bob");
  assert.equal(first.output, first.enqueued[0].id);
  assert.deepEqual(host.jobs.map((job) => [job.payload.user, job.queue, job.delayMs, job.priority]), [["ann", "mail", 10, 100], ["bob", "mail", 10, 100]]);
  const greet = handler("greet", (ctx, user) => ctx.enqueue("sms.send", { user }, { uniqueKey: `welcome ${user}` }));
  await host.run(greet, "ann");
  assert.deepEqual(host.jobs.map((job) => job.kind), ["mail.send", "mail.send", "sms.send"]);
});

test("a secret doesn't show itself, and is had by asking", async () => {
  const host = new FakeHost({ secrets: { TOKEN: "hunter2" } });
  const use = handler("secret.use", (ctx) => {
    const secret = ctx.secret("TOKEN");
    assert.ok(secret instanceof Secret);
    ctx.log.info("asked", { secret, nested: { secret } });
    for (const text of [() => `Bearer ${secret}`, () => "Bearer " + secret, () => String(secret), () => JSON.stringify({ secret })]) {
      assert.throws(text, TypeError);
    }
    assert.doesNotMatch(inspect({ secret, list: [secret] }, { depth: 9, showHidden: true }), /hunter2/);
    assert.throws(() => ctx.enqueue("mail.send", { secret }), /keep it out of payloads/);
    return `Bearer ${secret.expose()}`.length;
  });
  const run = await host.run(use, null);
  assert.equal(run.failure, undefined);
  assert.equal(run.output, 14);
  assert.equal(run.logs[0].fields.secret, "Secret(…)");
  assert.doesNotMatch(JSON.stringify(run.logs), /hunter2/);
});

test("a log field that can't be shown fails no job", async () => {
  const endless = {};
  endless.self = endless;
  const log = handler("log.anything", (ctx) => ctx.log.info("seen", { endless, big: 1n, nothing: undefined, symbol: Symbol("s") }));
  const run = await new FakeHost().run(log, null);
  assert.equal(run.failure, undefined);
  assert.match(run.logs[0].fields.endless, /^\(not shown: /);
  assert.deepEqual([run.logs[0].fields.big, run.logs[0].fields.nothing, run.logs[0].fields.symbol], ["1", "undefined", "Symbol(s)"]);
});
