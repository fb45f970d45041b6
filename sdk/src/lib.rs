#![doc = include_str!("../README.md")]
//!
//! # Map of the crate
//! | | |
//! |---|---|
//! | [`handler`](macro@handler), [`export!`] | make functions into a component |
//! | [`Context`] | a handler's access to its host: the attempt, log, progress, state, jobs, secrets |
//! | [`Request`], [`Response`] | HTTP: see [`Context::http`] |
//! | [`NewJob`], [`Unique`], [`Debounce`] | further jobs, and which of them are the same |
//! | [`Failure`], [`OrFail`], [`OrFailIo`], [`snooze`] | failures of handlers: try again, or don't, or later |
//! | [`Decode`], [`Encode`], [`Bytes`] | payloads, outputs and state values: JSON through serde, or raw |
//! | [`FakeHost`], [`assert_enqueued!`] | the host of unit tests |

// The bindings and the code that the macros generate name this crate as its users do.
#[allow(unused_extern_crates, reason = "nothing in this crate itself needs it by that name")]
extern crate self as sandhog_sdk;

mod codec;
mod context;
mod enqueue;
mod failure;
#[cfg(not(target_family = "wasm"))]
mod fake;
#[cfg(target_family = "wasm")]
mod guest;
#[cfg(target_family = "wasm")]
mod guest_http;
mod handler;
mod host;
mod http;
mod log;
mod progress;
mod secret;
mod state;
mod unique;

pub use codec::{Bytes, Decode, Encode, InvalidJson};
pub use context::{Context, StopReason};
pub use enqueue::{EnqueueError, JobId, NewJob};
pub use failure::{
    Failure, OrFail, OrFailIo, Result, permanent, rate_limited, retry_after, snooze, transient, unavailable,
};
#[cfg(not(target_family = "wasm"))]
pub use fake::{
    Attempt, Drained, Enqueued, EnqueuedJob, FakeClock, FakeHost, FakeLimits, HttpReply, JobState, LogLine,
    Run,
};
pub use handler::{Handler, HandlerFn};
pub use http::{HttpError, Request, Response};
pub use log::Level;
pub use progress::Progress;
pub use sandhog_macros::handler;
pub use secret::{Secret, SecretError};
pub use state::{State, StateError, Swapped};
pub use unique::{Debounce, Unique};

/// Prelude with what most handlers need: `use sandhog_sdk::prelude::*;`.
pub mod prelude {
    pub use crate::{Context, Failure, OrFail, OrFailIo, Result, handler, permanent, retry_after, transient};
    pub use crate::{debug, error, info, trace, warn};
    pub use crate::{rate_limited, snooze, unavailable};
}

/// Items for the code that the macros of this crate generate; not part of its interface.
#[doc(hidden)]
pub mod __private {
    #[cfg(not(target_family = "wasm"))]
    pub use crate::fake::{describe_unwanted, find_enqueued};
    #[cfg(target_family = "wasm")]
    pub use crate::guest::{Guest, Job, Output, WitFailure, bindings, export_component, run};
    pub use crate::handler::{decode_payload, encode_output, kind_line, kinds_are_distinct};
}
