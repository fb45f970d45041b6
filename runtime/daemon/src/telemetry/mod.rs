//! Telemetry: the daemon's events, and its log.
//!
//! | part | is about |
//! |---|---|
//! | [`Observer`], [`Event`] | the events, and the trait of those that read them |
//! | [`observer()`] | all that read them: the log |
//! | [`log`] | the log itself: a writer that nothing waits for |

pub mod log;
mod log_events;
mod observer;

use std::sync::Arc;

use log_events::LogEvents;
pub(crate) use log_events::LogFields;
pub use observer::{Event, Observer, Registration, Trouble};

/// Creates the observer of a daemon, which hands each event to all that read them.
#[must_use]
pub fn observer() -> Arc<dyn Observer> {
    Arc::new(LogEvents)
}
