//! Schedules: those of the plugins in force are registered with the store, and what is due is enqueued.
//!
//! ```text
//! register.rs  the schedules of plugin files to the store     fire.rs  what is due, when the janitor finds it
//! step.rs      reading a record, deciding, writing it back
//! ```
//!
//! Every daemon does this for all tenants; which of them is faster doesn't matter. All rules are in
//! [`sandhog_core::schedule`], and a decision goes by the store's clock.

pub(crate) mod fire;
pub(crate) mod register;
pub(crate) mod step;
#[cfg(test)]
mod tests;
