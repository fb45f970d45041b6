// `fetch` of a component, on Node's streams.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";

/** What the engine's `fetch` answers: a body as it was sent. */
let answer;
globalThis.fetch = async (input, init) => answer(input, init);
const guest = await import("../src/guest-fetch.js");

const URL = "https://api.example/prices";
const TEXT = "hello ".repeat(10_000);

function sent(body, headers, status = 200) {
  const response = new Response(body, { status, headers });
  answer = async () => Object.defineProperty(response, "url", { value: URL });
  return response;
}

afterEach(() => assert.equal(guest.requestsUnderWay, 0));

test("a body is what was encoded, and the rest as it was sent", async () => {
  for (const [coding, encode] of [["gzip", gzipSync], ["X-GZip", gzipSync], [" deflate", deflateSync]]) {
    sent(encode(TEXT), { "content-encoding": coding, "x-other": "1" }, 203);
    const response = await fetch(URL);
    assert.deepEqual([response.status, response.url, response.headers.get("x-other")], [203, URL, "1"]);
    assert.equal(response.headers.get("content-encoding"), coding.trim());
    assert.equal(await response.text(), TEXT);
  }
});

test("what isn't encoded, or in another way, is left as it is", async () => {
  const cases = [
    [TEXT, {}, undefined],
    [brotliCompressSync(TEXT), { "content-encoding": "br" }, undefined],
    [gzipSync(deflateSync(TEXT)), { "content-encoding": "deflate, gzip" }, undefined],
    [null, { "content-encoding": "gzip", "content-length": "500" }, undefined],
    ["", { "content-encoding": "gzip", "content-length": "0" }, undefined],
    ["", { "content-encoding": "gzip", "content-length": "500" }, { method: "head" }],
    ["", { "content-encoding": "gzip", "content-length": "500" }, new Request(URL, { method: "HEAD" })],
  ];
  for (const [body, headers, asked] of cases) {
    const expected = sent(body, headers);
    assert.equal(await (asked instanceof Request ? fetch(asked) : fetch(URL, asked)), expected);
  }
});

test("a body that isn't what its header says is an error of who reads it", async () => {
  sent("no gzip", { "content-encoding": "gzip" });
  const response = await fetch(URL);
  await assert.rejects(response.text());
});

test("a request is under way until there is a response or none", async () => {
  let respond;
  answer = () => new Promise((resolve) => (respond = resolve));
  const first = fetch(URL);
  assert.equal(guest.requestsUnderWay, 1);
  respond(new Response("hello"));
  assert.equal(await (await first).text(), "hello");
  answer = async () => {
    throw new TypeError("refused");
  };
  await assert.rejects(fetch(URL), /refused/);
  answer = () => {
    throw new Error("no fetch");
  };
  await assert.rejects(fetch(URL), /no fetch/);
});
