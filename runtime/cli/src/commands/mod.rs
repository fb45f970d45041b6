//! The commands. Each is a module: its arguments, and a function that does it and returns how the command ends.
//!
//! Beside them stand parts of arguments that several take: [`selection`] of jobs, [`payload`]s, [`times`], and what several
//! do: [`wait`] for jobs, [`loading`] of components, [`bulk`] enqueues.

mod act;
mod bulk;
pub(crate) mod check;
pub(crate) mod daemon;
pub(crate) mod dev;
pub(crate) mod enqueue;
pub(crate) mod job;
pub(crate) mod jobs;
mod loading;
mod payload;
pub(crate) mod plugin;
pub(crate) mod plugins;
pub(crate) mod reload;
mod selection;
pub(crate) mod tenant;
mod times;
pub(crate) mod usage;
mod wait;
