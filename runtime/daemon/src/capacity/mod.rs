//! Capacity: limits of the runs under way at once, of a tenant, of a plugin, and on the daemon.
//!
//! | part | is about |
//! |---|---|
//! | [`concurrency`] | the limit of a tenant or of a plugin |
//! | [`fair_slots`] | the daemon's slots, shared between the tenants |
//! | [`permits`] | the permits of all three that a run holds |

pub mod concurrency;
pub(crate) mod fair_slots;
pub(crate) mod permits;
