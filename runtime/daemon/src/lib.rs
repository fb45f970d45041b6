//! The daemon: leases jobs, runs each one in a sandbox of its own, and records what came of it.
//!
//! ```text
//!  permit ────> lease ──> admit ──> run ──────────> settle      one job's way
//!  capacity     intake    core      run, engine     run
//! ```
//!
//! | room | is about |
//! |---|---|
//! | [`capacity`] | limits of the runs under way |
//! | `schedule` | schedules: registering those of plugins, enqueueing what is due |
//! | [`lease`] | renewing leases, waking, the janitor |
//! | [`run`] | one attempt, and recording its end |
//! | [`intake`] | leasing a tenant's jobs, and starting them |
//! | [`deploy`] | which plugins are in force, from files and commands |
//! | [`service`] | use cases: what people and programs can ask for |
//! | [`http`] | the HTTP interface to them |
//! | [`telemetry`] | the daemon's events, and its log |
//! | [`app`] | the loops, put together |
//! | [`catalog`] | the tenants and plugins in force now |
//! | [`shutdown`] | the order in which it all stops |
//! | [`clock`] | time and chance |
//! | [`vitals`] | signs of life, for the fleet and for whoever watches the process |
//! | [`broker`] | the connection to the broker that the configuration names |
//!
//! The loops see broker and engine as the traits [`sandhog_broker::Broker`] and [`run::runner::Runner`], so that a simulation
//! can play both.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod app;
pub mod broker;
pub mod capacity;
pub mod catalog;
pub mod clock;
pub mod deploy;
pub mod http;
mod intake;
pub mod lease;
pub mod off_thread;
pub mod run;
mod schedule;
pub mod service;
pub mod shutdown;
pub mod telemetry;
pub mod unique;
pub mod vitals;
