// What docs/languages.md says of JavaScript, each claim as something to be run: `{"claim": "timers"}`.

import { handler } from "sandhog-sdk";
import { nanoid } from "nanoid";
import { z } from "zod";

const Order = z.object({ customer: z.email(), cents: z.array(z.int().nonnegative()).min(1) });

const CLAIMS = {
  /** Packages of npm: one that checks data, and one that is another in browsers than in Node. */
  packages: (_, { order }) => {
    const ids = new Set(Array.from({ length: 100 }, () => nanoid(10)));
    return { order: Order.parse(order), refused: Order.safeParse({}).error.issues.length, ids: ids.size };
  },

  /** Timers and microtasks, in their order. */
  timers: async () => {
    const order = [];
    const after = (ms) => new Promise((resolve) => setTimeout(() => resolve(order.push(ms)), ms));
    const never = setTimeout(() => order.push("never"), 1);
    clearTimeout(never);
    queueMicrotask(() => order.push("microtask"));
    order.push("first");
    await Promise.all([after(30), after(10), after(20)]);
    return order;
  },

  /** Asynchronous code of every kind. */
  async: async () => {
    async function* numbers() {
      for (let n = 1; n <= 3; n++) yield await Promise.resolve(n);
    }
    let sum = 0;
    for await (const n of numbers()) sum += n;
    const settled = await Promise.allSettled([Promise.reject(new Error("no")), Promise.any([Promise.reject(new Error("no")), 4])]);
    return [sum, settled.map(({ status }) => status), await Promise.race([new Promise(() => {}), 5])];
  },

  /** What nobody waits for, and what can't run at once: the job ends without it. */
  forgotten: (ctx) => {
    setTimeout(() => ctx.log.info("too late"), 60_000);
    return "done";
  },

  /** A promise that nobody waits for, and that is rejected after the handler has returned. */
  rejected: () => {
    const late = async () => {
      for (let n = 0; n < 10; n++) await n;
      throw new RangeError("nobody waits for this");
    };
    late();
    return "done";
  },

  /** Rejections that somebody handles, if late, or elsewhere. */
  handled: async () => {
    const late = Promise.reject(new Error("late"));
    await new Promise((resolve) => setTimeout(resolve, 1));
    const stream = new ReadableStream({
      async pull() {
        throw new Error("pulled");
      },
    });
    const messages = [];
    for (const promise of [late, stream.getReader().read()]) {
      await promise.catch(({ message }) => messages.push(message));
    }
    return messages;
  },

  /** A handler that fails, and leaves rejections that nobody handles. */
  several: async () => {
    const fails = async (message) => {
      throw new Error(message);
    };
    const [one] = Array.from({ length: 20 }, (_, n) => fails(`number ${n}`));
    await one;
  },

  /** A request that nobody waits for. */
  unanswered: (_, { url }) => {
    fetch(url);
    return "done";
  },

  /** An output that wasn't waited for. */
  promised: () => ({ text: Promise.resolve("a text") }),

  /** What the web has, and Node hasn't alone. */
  web: async () => ({
    url: new URL("../b?c=ü#d", "https://example.org/a/").href,
    uuid: crypto.randomUUID().length,
    text: new TextDecoder().decode(new TextEncoder().encode("ü")),
    clone: structuredClone(new Map([["a", [1n]]])).get("a")[0] === 1n,
    base64: btoa("hi"),
    digest: new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array())).length,
    stream: await new Response(new Blob(["a", "b"]).stream()).text().catch(() => "no streams of blobs"),
    missing: ["process", "Buffer", "require", "Intl", "WebAssembly"].filter((name) => name in globalThis),
  }),

  /** Words and numbers of a place: there is no `Intl`, and what needs it says the same everywhere. */
  places: () => ({
    number: (1234567.5).toLocaleString("de-DE"),
    date: new Date(0).toLocaleDateString("de-DE", { timeZone: "UTC" }),
    compared: ["b", "ä", "a"].sort((a, b) => a.localeCompare(b)),
    zone: new Date(0).getTimezoneOffset(),
  }),

  /** A large payload. */
  large: (_, { rows }) => ({ rows: rows.length, sum: rows.reduce((sum, { n }) => sum + n, 0), last: rows.at(-1).text }),

  /** Many files, one after the other. */
  files: (ctx, { folder, times }) => {
    for (let n = 0; n < times; n++) {
      ctx.files.write(`${folder}/${n % 3}`, `${n}`);
      if (ctx.files.readText(`${folder}/${n % 3}`) !== `${n}`) throw new Error("it isn't what was written");
      ctx.files.list(folder);
    }
    return ctx.files.list(folder);
  },

  /** An error with a cause, thrown deep inside. */
  throws: (_, { message }) => {
    const inner = () => {
      throw new RangeError(message);
    };
    const outer = () => {
      try {
        inner();
      } catch (cause) {
        throw new TypeError("it can't be done", { cause });
      }
    };
    outer();
  },

  /** Writes to the console in every way. */
  console: () => {
    console.log("a %s", "log", { a: [1] });
    console.warn("a warning");
    console.error(new Error("an error").message);
    console.log("two\nlines");
    console.log("");
    return "done";
  },
};

/** Does what a claim is about. */
export const claim = handler("hog.claim", (ctx, { claim, ...given }) => CLAIMS[claim](ctx, given));
