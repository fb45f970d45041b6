//! Runs one component once, under one budget.
//!
//! Three lifetimes, three types: the [`Engine`] is one a process, a [`Plugin`] is one loaded revision of a component,
//! and a run is one fresh instance of it, thrown away when its [`Report`] is made.
//!
//! ```text
//! wasm ──load──> Plugin ──admit (core)──> Plan ──run──> Report
//!        slow, aside        pure                  never fails, never panics
//! ```
//!
//! This crate knows no queue, no broker and no TOML. What a run needs of the world beyond its sandbox, it asks of the
//! [`Host`] that it is given.
//!
//! [`Report`]: sandhog_core::outcome::Report

mod abort;
mod cache;
mod config;
mod ending;
mod engine;
mod error;
mod held;
mod host;
mod imports;
mod load;
mod meter;
mod plugin;
mod priority;
mod run;
mod run_log;
mod schedule;
mod settings;
mod wasi;

pub use abort::{Abort, Courtesy};
pub use config::Config;
pub use engine::Engine;
pub use error::Error;
pub use host::{EnqueueRefusal, Host, JobAsk};
pub use load::revision_of;
pub use plugin::{Access, DirGrant, Grants, Import, Inspection, LoadSpec, Plugin, Secret, Source};
pub use run::{Input, Share};
