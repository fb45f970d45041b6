// A secret that doesn't show itself by accident.

const HIDDEN = "Secret(…)";

/** @see index.d.ts */
export class Secret {
  #value;

  constructor(value) {
    this.#value = value;
  }

  expose() {
    return this.#value;
  }

  // Text that is made of it without asking would be a secret where nobody looks for one, or not the one that was meant.
  [Symbol.toPrimitive]() {
    throw new TypeError("a secret is no text: `.expose()` gives its value, to be handed to whoever it is for");
  }

  toJSON() {
    throw new TypeError("a secret has no JSON form: keep it out of payloads, outputs and state");
  }

  [Symbol.for("nodejs.util.inspect.custom")]() {
    return HIDDEN;
  }

  get [Symbol.toStringTag]() {
    return "Secret";
  }
}

/** How a value is shown in a log. A line is never the reason that a job fails. */
export function shown(value) {
  if (value instanceof Secret) return HIDDEN;
  try {
    return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
  } catch (error) {
    return `(not shown: ${error.message})`;
  }
}
