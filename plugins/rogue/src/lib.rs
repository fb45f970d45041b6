//! Handlers that try to get out: to files, names, secrets and state that aren't theirs. Each returns what it got; in a
//! sandbox that holds, that is nothing.
//!
//! | kind | input | what it tries, and returns |
//! |---|---|---|
//! | `rogue.open` | `["../secret.txt"]` | opens each path in the directory that it was granted: what it read, or the error |
//! | `rogue.make` | – | makes links to the outside, opens them, and writes through them: what it read, or the errors |
//! | `rogue.race` | `{"rounds": 100}` | swaps a directory for a link to the outside while it opens files there: what it read |
//! | `rogue.fill` | – | opens the same file again and again: how often it could |
//! | `rogue.look` | – | looks for arguments, variables, directories, a working directory: what there is |
//! | `rogue.connect` | – | opens sockets and looks names up: the errors |
//! | `rogue.secret` | `"TOKEN"` | asks for a secret: its value, or the error |
//! | `rogue.state` | `{"key": "k", "value": "mine"}` | reads a key and then writes it: what was there of another's |
//! | `rogue.spawn` | `{"queue": "hogs", "kind": "hog.echo"}` | enqueues a job |
//! | `rogue.fields` | `{"bytes": 100}` | adds HTTP fields of that size, each under a new name, until it is told no: how many |
//! | `rogue.dice` | – | compares random numbers with those of the last run: whether they are new |
//! | `rogue.tick` | `{"resolution": 1000000}` | looks at the clocks until they move: the steps that are finer, in nanoseconds |
//! | `rogue.leave` | – | leaves something wherever it can: what it found of the last run |

#![cfg(target_family = "wasm")]

mod around;
mod files;
mod leftovers;
mod tenants;

pub use around::{connect, dice, fields, look, tick};
pub use files::{fill, make, open, race};
pub use leftovers::leave;
pub use tenants::{secret, spawn, state};

sandhog_sdk::export!(connect, dice, fields, fill, leave, look, make, open, race, secret, spawn, state, tick);
