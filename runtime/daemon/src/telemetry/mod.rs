//! Telemetry: the daemon's events, and its log.
//!
//! | part | is about |
//! |---|---|
//! | [`Observer`], [`Event`] | the events, and the trait of those that read them |
//! | [`LogEvents`] | the log as an observer |
//! | [`log`] | the log itself: a writer that nothing waits for |

pub mod log;
mod log_events;
mod observer;

pub use log_events::LogEvents;
pub(crate) use log_events::LogFields;
pub use observer::{Event, Observer, Registration, Trouble};
