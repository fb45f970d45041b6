//! The commands. Each is a module with its arguments and a function that runs it and returns the exit code.
//!
//! Beside them are arguments that several commands share ([`selection`] of jobs, [`payload`]s, [`times`]), and operations
//! that they share: [`wait`] for jobs, [`loading`] of components, [`bulk`] enqueues.

mod act;
pub(crate) mod breakers;
mod bulk;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod daemon;
pub(crate) mod dev;
pub(crate) mod enqueue;
pub(crate) mod events;
pub(crate) mod flow;
mod flow_file;
pub(crate) mod groups;
pub(crate) mod holds;
pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod limits;
mod loading;
pub(crate) mod man;
mod notify;
mod payload;
pub(crate) mod plugin;
pub(crate) mod plugins;
pub(crate) mod queues;
pub(crate) mod reload;
pub(crate) mod schedule;
pub(crate) mod selection;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod tenant;
mod times;
pub(crate) mod token;
pub(crate) mod usage;
mod wait;
