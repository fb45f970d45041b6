//! Deploys: from what the operator writes to what is in force, while the daemon runs.
//!
//! | part | is about |
//! |---|---|
//! | [`watch`] | hearing that files have changed |
//! | [`deployer`], [`catalog_update`] | the one task that changes what is in force |
//! | [`queue`] | which deploys go on beside it, and which wait; pure |
//! | [`mod@engine_settings`] | how the engine is set up for a configuration, smoke runs included |
//! | [`mod@start`] | what is in force when a daemon starts |
//! | [`diff`] | what is asked for beside what is in force; pure |
//! | [`steps`], [`smoke`] | what a component goes through first |
//! | [`kinds`] | whether a component handles what its TOML lists |
//! | [`signatures`] | who signed a component, and whether that is somebody whom the tenant trusts |
//! | [`slot`], [`state`] | what is in force, and the catalog that follows |
//! | [`history`], [`store`], [`kept_files`] | what was in force, and can be again |
//! | [`archive`] | kept revisions for jobs that are pinned to one |
//! | [`canary`], [`fleet`] | a canary's counts, and those of all daemons |
//! | [`in_use`] | the end of a revision |
//! | [`events`] | deploy events: reported, kept and shown |

mod archive;
mod canary;
mod catalog_update;
mod deployer;
mod diff;
mod engine_settings;
mod error;
mod events;
mod files;
mod fleet;
mod grants;
mod handle;
mod history;
mod in_use;
mod kept_files;
mod kinds;
mod queue;
pub mod signatures;
mod slot;
mod smoke;
mod start;
mod state;
mod steps;
mod store;
mod watch;

/// Name of the file of events in the folder of deploys.
const EVENTS: &str = "events.json";

pub use canary::CanaryTrial;
pub use deployer::Deployer;
pub use engine_settings::engine_settings;
pub use error::Error;
pub use grants::configure;
pub use handle::{Handle, Refusal};
pub use in_use::InUse;
pub use kept_files::load_config;
pub use start::{Failing, StartError, Started, start};
pub use steps::load;
pub use store::StoreError;
pub use watch::{Watched, watch_files};
