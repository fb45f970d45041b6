//! The engine: runs one component once, under one budget.
//!
//! Three lifetimes, three types: the [`Engine`] is one a process, a [`Plugin`] is one loaded revision of a component,
//! and a run is one fresh instance of it, thrown away when its [`Report`] is made.
//!
//! ```text
//! wasm ──load──> Plugin ──admit (core)──> Plan ──run──> Report
//!        slow, aside        pure                  never fails, never panics
//! ```
//!
//! This crate knows no queue, no broker and no TOML. A run asks the [`Host`] that it is given for what it needs of the world
//! beyond its sandbox.
//!
//! # What holds a guest
//! | it could | and is held by |
//! |---|---|
//! | compute without end | fuel; the timeout, which is looked at every tick |
//! | call the host without end | fuel: each call costs some, and each byte handed over; a number of calls a second |
//! | wait without end | a timer outside of wasmtime, which drops the host call; a deadline for each kind of call |
//! | keep others from computing | guest threads that go round by tenant, weighted, and are given up at ticks |
//! | keep the daemon from working | guest threads being threads of their own, below the others in priority |
//! | keep the host busy, or its threads waiting | bounds by tenant on what it has under way, and its time charged to the share |
//! | take memory, tables, stack | limits on their sums, of the run and of all its tenant's; the stack's is the engine's |
//! | make the host take memory | limits on the output, log, effects, on what one call hands over, on resources |
//! | make the compiler work without end | a child process compiles, within time and memory: [`Compiler`] |
//! | leave something behind | a fresh instance for every run, in memory that was cleared |
//! | reach something | WASI with nothing granted but what [`Grants`] says, addresses that are checked |
//! | fill the disk, or open files without end | quotas of directories, a limit on open files |
//! | say a secret aloud | wiping everything textual that it says |
//! | measure others by the clock | clocks as coarse as the budget says |
//! | make the host panic | the edge of the run, where a panic becomes a host fault of that run alone |
//!
//! # What a run costs
//! `examples/cost.rs` prints it. A store, an instance, a call and their end take some microseconds, and going to a
//! guest thread and back about as long again. What a guest touches of its memory costs most; see
//! [`Config::idle_memory`].
//!
//! [`Report`]: sandhog_core::outcome::Report

mod abort;
mod account;
mod cache;
mod code;
mod compile;
mod config;
mod ending;
mod engine;
mod error;
mod host;
mod host_work;
mod imports;
mod kinds;
mod load;
mod meter;
mod needed_grants;
mod outgoing;
mod pending_effects;
mod plugin;
mod priority;
mod redactor;
mod run;
mod run_log;
mod schedule;
mod settings;
mod state_reads;
mod thread_clock;
mod wasi;

pub use abort::{Abort, StopHint};
pub use account::MemoryAccount;
pub use compile::{COMPILE, Compiler, compile_child};
pub use config::{Config, Deadlines};
pub use engine::Engine;
pub use error::{Diverted, Error};
pub use host::{EnqueueRefusal, Host, JobAsk, Start};
pub use kinds::declared_kinds;
pub use load::{Components, revision_of, revision_of_reader, served};
pub use needed_grants::{NeededGrant, missing_grants};
pub use plugin::{
    Access, DirGrant, EnvValue, Grants, HttpGrant, Import, Inspection, LoadSpec, Plugin, Private, Secret,
    Source,
};
pub use run::{Class, Input, Share};
pub use sandhog_core::grants::{HttpTarget, InvalidTarget};
