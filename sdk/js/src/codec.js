// Payloads, outputs and state values: JSON, or a Uint8Array as it is.
//
// What is said of malformed JSON names the place, never what was found there: payloads and state are nobody else's
// business, and errors are seen by many.

const decoder = new TextDecoder("utf-8", { fatal: true });
const encoder = new TextEncoder();

/** The value's bytes. `undefined` as a whole is `null`, as of a handler that returns nothing. */
export function encode(value) {
  // Not `instanceof`: in a component, the bytes that the host gives are of another realm's `Uint8Array`.
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  const json = stringified(value === undefined ? null : value);
  if (json === undefined) throw new TypeError(`a ${typeof value} has no JSON form`);
  return encoder.encode(json);
}

// The form of a promise would be `{}`, and that it was to be waited for would be told nowhere.
function stringified(value) {
  Object.defineProperty(Promise.prototype, "toJSON", { value: refuse, configurable: true });
  try {
    return JSON.stringify(value);
  } finally {
    delete Promise.prototype.toJSON;
  }
}

function refuse() {
  throw new TypeError("a promise has no JSON form: is an `await` missing?");
}

/** The value of JSON bytes. */
export function decode(bytes) {
  let text;
  try {
    text = decoder.decode(bytes);
  } catch {
    throw new SyntaxError("not UTF-8");
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new SyntaxError(`not JSON${place(error.message)}`);
  }
}

// SpiderMonkey, which components run on, always says where; others now and then.
const place = (message) => / at line \d+ column \d+/.exec(message)?.[0] ?? "";
