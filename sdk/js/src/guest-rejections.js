// Promises that were rejected and that nobody handles.
//
// The engine has a set of them, and neither an `unhandledrejection` event nor anything else that a script could ask for it. It
// goes through that set at the end of the build, to print what was rejected by top-level code, with an iterator that it asks
// for itself, as for any iterable. An iterator of a set goes on with what is added later: that one is kept, and tells in a job
// what was rejected there.

const SetIterator = Object.getPrototypeOf(new Set().values());
const { next } = SetIterator;
const Iterator = Object.getPrototypeOf(SetIterator);
const itself = Object.getOwnPropertyDescriptor(Iterator, Symbol.iterator);

/** The iterator of the engine's set, behind what was in it at the end of the build. */
let ofEngine;

// The engine goes through the set only if there is something in it.
const first = Promise.reject();

Object.defineProperty(Iterator, Symbol.iterator, { ...itself, value: iterated });

/** Iterates an iterator as ever, but keeps the one of the engine's set. */
function iterated() {
  if (Object.getPrototypeOf(this) !== SetIterator) return this;
  // No other set has it. Once it comes, the iterator is behind all others and not at its end.
  const last = Promise.reject();
  const before = [];
  let step;
  while (!(step = next.call(this)).done && step.value !== last) before.push(step.value);
  last.catch(() => {});
  if (!step.done) {
    ofEngine = this;
    first.catch(() => {});
    Object.defineProperty(Iterator, Symbol.iterator, itself);
  }
  return before.filter((promise) => promise !== first).values();
}

/** The promises that nobody handles, so far. To be asked once: an iterator that has come to its end stays there. */
export function unhandledRejections() {
  const promises = [];
  for (let step; !(step = next.call(ofEngine)).done; ) promises.push(step.value);
  return promises;
}
