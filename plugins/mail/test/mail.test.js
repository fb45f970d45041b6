import assert from "node:assert/strict";
import { test } from "node:test";

import { FakeHost } from "sandhog-sdk/testing";

import { compose, render } from "../src/mail.js";

const WELCOME = "# Welcome, {{name}}\n\nYour plan is **{{plan}}**. [Start](https://example.org/start)\n";

test("a template from a granted folder becomes a mail, which is handed on once", async () => {
  const host = new FakeHost({ files: { "/templates/welcome.md": WELCOME } });
  const values = { name: "Ann", plan: "gold" };
  const run = await host.run(render, { to: "ann@example.org", file: "/templates/welcome.md", values, send: "mail.send" });
  assert.equal(run.failure, undefined);
  assert.equal(run.output.subject, "Welcome, Ann");
  assert.equal(
    run.output.html,
    '<h1>Welcome, Ann</h1>\n<p>Your plan is <strong>gold</strong>. <a href="https://example.org/start">Start</a></p>\n',
  );
  assert.match(run.output.text, /^# Welcome, Ann\n\nYour plan is \*\*gold\*\*/);
  assert.deepEqual(run.enqueued.map(({ kind, payload, uniqueKey }) => ({ kind, payload, uniqueKey })), [
    { kind: "mail.send", payload: run.output, uniqueKey: "mail job-1" },
  ]);
  assert.equal(host.stored("rendered"), 1);
});

test("a value is text, whoever wrote it", () => {
  const evil = '<img src=x onerror=alert(1)> [x](javascript:alert(1)) **bold**\n# heading & "more"';
  const { html, subject } = compose("# Hi {{name}}\n\n{{name}}\n", { name: evil });
  assert.doesNotMatch(html, /<img|<a |<strong|onerror="/);
  assert.equal(html.match(/<h1>/g).length, 1);
  assert.doesNotMatch(subject, /\n/);
});

test("markup and links of a template stay harmless", () => {
  const { html } = compose("# Hi\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1)) ![y](http://tracker.example/p.png)\n", {});
  assert.doesNotMatch(html, /<script|<a |<img|tracker/);
});

test("half a mail is not made, and not tried again", async () => {
  const host = new FakeHost();
  for (const [payload, says] of [
    [{ to: "ann@example.org", template: "# Hi {{name}}" }, /wants `name`/],
    [{ to: "ann@example.org", template: "no heading" }, /no heading/],
    [{ to: "ann@example.org" }, /one of `template` and `file`/],
    [{ template: "# Hi" }, /`to` is a mail address/],
  ]) {
    const run = await host.run(render, payload);
    assert.equal(run.failure?.permanent, true);
    assert.match(run.failure.message, says);
  }
  assert.equal(host.stored("rendered"), undefined);
});
