//! Ongoing upkeep between a daemon and its brokers: leases are renewed, stores kept tidy, news passed on.
//!
//! | part | is about |
//! |---|---|
//! | [`renewal`] | renewing leases in batches, with what runs report meanwhile |
//! | [`wake`] | telling each tenant's intake of work that turned up |
//! | [`janitor`] | making ready what is due, taking back what has run out, removing what is old |
//! | [`suspects`] | running a job alone whose lease ran out before |
//! | [`broker_health`] | whether brokers answer, what is logged of it, how calls are repeated |

pub mod broker_health;
pub(crate) mod janitor;
pub(crate) mod renewal;
pub(crate) mod suspects;
pub(crate) mod wake;
