// What a handler is written with. See README.md.

export { handler } from "./handler.js";
export { Failure, permanent, rateLimited, retryAfter, snooze, transient, unavailable } from "./failure.js";
export { HostError } from "./host-error.js";
export { Secret } from "./secret.js";
