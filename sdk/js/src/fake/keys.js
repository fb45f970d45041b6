// Unique keys of a fake host, by the rules of the real one.

/** Time after its longest wait at which the key of a debounced job is free in any case. */
const FALLBACK_MS = 24 * 60 * 60 * 1000;

/** The longest time for which a key is held. */
const HOLD_MAX_MS = 400 * 24 * 60 * 60 * 1000;

/** How long a job waits for others with its key; `undefined` if it doesn't. */
export const delayOf = (unique) =>
  unique?.rule.tag === "debounce" && !unique.rule.val.leading ? unique.rule.val.delayMs : undefined;

/** A rule in the terms of keys that are held. */
function termsOf({ tag, val }) {
  if (tag === "hold") return { ...val, lastsMs: val.lastsMs ?? Infinity };
  const { delayMs, longestMs, leading } = val;
  const terms = leading ? { until: "over", lastsMs: delayMs, replaces: false } : { until: "started", lastsMs: longestMs + FALLBACK_MS, replaces: true };
  return { ...terms, debounce: val };
}

const isReplaceable = ({ replaces, until }) => replaces && until !== "over";

/** How a job of this rule holds its key that is created now. */
export function holdOf(rule, now) {
  const terms = termsOf(rule);
  const ends = terms.lastsMs === Infinity ? Infinity : now + Math.min(terms.lastsMs, HOLD_MAX_MS);
  return { until: terms.until, ends, deadline: terms.debounce && now + terms.debounce.longestMs, isReplaceable: isReplaceable(terms) };
}

/** Whether a key is still held, by the state of its job and by its time. */
export function isInForce({ until, ends }, state, hasStarted, now) {
  const byJob = until === "over" || (state === "waiting" && (until === "settled" || !hasStarted));
  return byJob && now < ends;
}

/** What a job of this rule does to the one that holds its key, and waits or not. */
export function clashOf(rule, held, waits, now) {
  const terms = termsOf(rule);
  const replaces = waits && held.isReplaceable && isReplaceable(terms);
  if (terms.debounce === undefined) return { replaces };
  const putOff = held.deadline && Math.min(now + terms.debounce.delayMs, held.deadline);
  return held.until === "over" ? { replaces: false, ends: putOff } : { replaces, due: replaces ? putOff : undefined };
}
