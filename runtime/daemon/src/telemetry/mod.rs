//! Telemetry: the daemon's events, and its log.
//!
//! | part | is about |
//! |---|---|
//! | [`Observer`], [`Event`] | the events, and the trait of those that read them |
//! | [`observer()`] | all that read them: the log, and the metrics |
//! | [`log`] | the log itself: a writer that nothing waits for |
//! | [`metrics`] | what is counted, and told to Prometheus |

pub mod log;
mod log_events;
pub mod metrics;
mod observer;

use std::sync::Arc;

use log_events::LogEvents;
pub(crate) use log_events::LogFields;
use metrics::Metrics;
pub use observer::{Event, Finished, Observer, Registration, Trouble};

/// Creates the observer of a daemon, which hands each event to all that read them.
#[must_use]
pub fn observer(metrics: &Arc<Metrics>) -> Arc<dyn Observer> {
    let all: Vec<Arc<dyn Observer>> = vec![Arc::new(LogEvents), Arc::clone(metrics) as _];
    Arc::new(all)
}
