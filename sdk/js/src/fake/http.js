// The HTTP of a fake host: a table of replies, which `fetch` finds while a handler runs.

import { AsyncLocalStorage } from "node:async_hooks";

const running = new AsyncLocalStorage();
let real;

/** Runs something during which `fetch` asks this table, and notes its requests. */
export function withFetch(table, requests, run) {
  if (globalThis.fetch !== fakeFetch) {
    real = globalThis.fetch;
    globalThis.fetch = fakeFetch;
  }
  return running.run({ table, requests }, run);
}

async function fakeFetch(input, options) {
  const run = running.getStore();
  if (run === undefined) return real(input, options);
  const asked = new Request(input, options);
  const request = {
    method: asked.method,
    url: asked.url,
    headers: Object.fromEntries(asked.headers),
    body: new Uint8Array(await asked.arrayBuffer()),
  };
  run.requests.push(request);
  const { status = 200, headers = {}, body, json, error } = await run.table.reply(request);
  if (error !== undefined) throw new TypeError(`fetch ${request.url}: ${error}`);
  const content = json === undefined ? body : JSON.stringify(json);
  const usual = json === undefined ? {} : { "content-type": "application/json" };
  const response = new Response(BODILESS.has(status) ? null : content, { status, headers: { ...usual, ...headers } });
  Object.defineProperty(response, "url", { value: request.url });
  return response;
}

const BODILESS = new Set([204, 205, 304]);

/** Replies by `METHOD URL`; the URL may end in `*`, for all that begin like it, and the method may be `*`. */
export class HttpTable {
  #replies;

  constructor(replies) {
    this.#replies = Object.entries(replies).map(([request, given]) => {
      const [, method, url] = /^(\S+) (\S+)$/.exec(request) ?? [];
      if (url === undefined) throw new TypeError(`a request of the fake host is \`METHOD URL\`, not \`${request}\``);
      return { method, url, given, used: 0 };
    });
  }

  /** The reply to a request: the one for this very URL, or else for its longest beginning. */
  reply(request) {
    const fits = ({ method, url }) =>
      (method === "*" || method === request.method) &&
      (url.endsWith("*") ? request.url.startsWith(url.slice(0, -1)) : request.url === url);
    const rank = ({ method, url }) => [url.endsWith("*") ? 0 : 1, url.length, method === "*" ? 0 : 1];
    const [found] = this.#replies.filter(fits).sort((a, b) => higher(rank(a), rank(b)));
    if (found === undefined) {
      return { error: `the fake host has no reply to ${request.method} ${request.url}: add it to its \`http\`` };
    }
    const { given } = found;
    if (typeof given === "function") return given(request);
    return Array.isArray(given) ? given[Math.min(found.used++, given.length - 1)] : given;
  }
}

function higher(a, b) {
  const at = a.findIndex((part, at) => part !== b[at]);
  return at === -1 ? 0 : b[at] - a[at];
}
