//! What a daemon says of itself.
//!
//! | part | is about |
//! |---|---|
//! | [`Observer`], [`Event`] | what happens, told to whoever reads it |
//! | [`LogEvents`] | the log as a reader of that |
//! | [`log`] | the log itself: a writer that nothing waits for |

pub mod log;
mod log_events;
mod observer;

pub use log_events::LogEvents;
pub(crate) use log_events::LogFields;
pub use observer::{Event, Observer, Trouble};
