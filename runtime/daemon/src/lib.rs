//! The daemon: leases jobs, runs each one in a sandbox of its own, and records what came of it.
//!
//! ```text
//!  permit ──> lease ──> admit ──> run ──> settle          one job's way, in `worker`
//!  intake     intake    core      engine  settler
//!
//!  deploy      changes which plugins are in force, from files and commands
//!  control     the socket on which the commands come
//!  wake        tells each tenant's intake of work that turned up
//!  heartbeat   renews leases in batches, and stores what runs report meanwhile
//!  drain       the order in which it all stops
//! ```
//!
//! This crate alone knows the broker, the engine and the configuration; the loops see them as the traits
//! [`sandhog_broker::Broker`] and [`runner::Runner`], so that a simulation can play all three.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod ahead;
pub mod ambient;
pub mod app;
pub mod broker;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod control;
pub mod deploy;
pub mod drain;
pub mod gate;
mod guest_host;
mod heartbeat;
mod intake;
mod janitor;
pub mod log;
mod off_thread;
mod outage;
pub mod provenance;
mod regular_file;
mod room;
pub mod runner;
mod seats;
mod settler;
mod suspects;
mod turn;
mod unique;
mod wake;
mod worker;
