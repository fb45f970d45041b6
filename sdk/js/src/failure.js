// How a handler gives up, and what any other error means.

/** @see index.d.ts */
export class Failure extends Error {
  constructor(message, { permanent = false, code = undefined, retryAfterMs = undefined, putOff = undefined, cause = undefined } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "Failure";
    this.permanent = permanent;
    this.code = code;
    this.retryAfterMs = retryAfterMs;
    this.putOff = putOff;
  }
}

export const permanent = (message, { cause } = {}) => new Failure(message, { permanent: true, cause });

export const transient = (message, { code, cause } = {}) => new Failure(message, { code, cause });

export function retryAfter(ms, message, { code, cause } = {}) {
  return new Failure(message, { code, retryAfterMs: wholeMs(ms), cause });
}

export const snooze = (ms) => putOff("snoozed", ms);

export const rateLimited = (ms, downstream) => putOff("rate-limited", ms, downstream);

export const unavailable = (downstream, ms = 10_000) => putOff("unavailable", ms, downstream);

const putOff = (why, ms, downstream) =>
  new Failure(why, { putOff: { why, ms: wholeMs(ms), ...(downstream !== undefined && { downstream }) } });

// A hundred years.
const MS_MAX = 3_155_760_000_000;

/** Whole milliseconds; a part of one counts as one. */
export function wholeMs(ms) {
  if (!(ms >= 0 && ms <= MS_MAX)) throw new RangeError(`a time is 0 to ${MS_MAX} milliseconds, not ${ms}`);
  return Math.ceil(ms);
}

/** The failure that anything thrown comes to: what is no `Failure` may go away by itself. */
export function toFailure(thrown) {
  if (thrown instanceof Failure) {
    const { permanent, code, retryAfterMs, putOff, cause } = thrown;
    return new Failure(withCauses(thrown), { permanent, code, retryAfterMs, putOff, cause });
  }
  return new Failure(withCauses(thrown), { cause: thrown });
}

function withCauses(thrown) {
  const seen = new Set();
  const texts = [];
  for (let error = thrown; error !== undefined && error !== null && !seen.has(error); error = error.cause) {
    seen.add(error);
    texts.push(describe(error));
  }
  // Nothing may be thrown, too.
  return texts.length === 0 ? String(thrown) : texts.join(": ");
}

// The name says something only where it isn't the usual one.
function describe(error) {
  if (!(error instanceof Error)) return String(error);
  return error.name === "Error" || error.name === "Failure" || error.name === "HostError" ? error.message : `${error.name}: ${error.message}`;
}
