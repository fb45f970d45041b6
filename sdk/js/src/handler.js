// Handlers by kind, and the way from a payload to an output.

import { decode, encode } from "./codec.js";
import { Context } from "./context.js";
import { permanent, toFailure } from "./failure.js";

const handlers = new Map();

/** @see index.d.ts */
export function handler(kind, run, { input = "json" } = {}) {
  if (typeof kind !== "string" || kind === "") throw new TypeError("handler: the kind is a text such as `mail.render`");
  if (typeof run !== "function") throw new TypeError(`handler: \`${kind}\` has no function`);
  if (handlers.has(kind)) throw new Error(`handler: two handlers have the kind \`${kind}\``);
  const made = { kind, run, input };
  handlers.set(kind, made);
  return made;
}

/** The kinds that have a handler. */
export const kinds = () => [...handlers.keys()];

/** Handles a job by its kind. Returns `{ output }` or `{ failure }`, and what was thrown with the latter. */
export function dispatch(host, job) {
  const made = handlers.get(job.kind);
  if (made) return handle(made, host, job);
  const known = kinds().map((kind) => `\`${kind}\``).join(", ");
  return { failure: permanent(`this component has no handler of \`${job.kind}\`, only of ${known}`) };
}

/** Decodes the payload, handles the job, encodes the output. */
export async function handle({ kind, run, input }, host, job) {
  try {
    const value = decodeInput(kind, input, job.payload);
    const output = await run(new Context(host, job), value);
    return { output: encodeOutput(kind, output) };
  } catch (thrown) {
    return { failure: toFailure(thrown), thrown };
  }
}

// A payload that is none will be none the next time; the same goes for an output.
function decodeInput(kind, input, payload) {
  if (input === "bytes") return payload;
  try {
    const value = decode(payload);
    return typeof input === "function" ? input(value) : value;
  } catch (cause) {
    throw permanent(`the payload is no input of \`${kind}\``, { cause });
  }
}

function encodeOutput(kind, output) {
  try {
    return encode(output);
  } catch (cause) {
    throw permanent(`the output of \`${kind}\` has no JSON form`, { cause });
  }
}
