//! `sandhog plugin`: commands for handler authors, and for those who deploy their handlers.

mod build;
mod inspect;
mod key;
mod language;
mod local_host;
mod new;
mod rollback;
mod run;
mod sign;

use std::fs;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;

use clap::Subcommand;
use sandhog_config as config;
use sandhog_core::budget::Budget;
use sandhog_engine::{Compiler, Engine};

use crate::exit::{Exit, Failure};
use crate::output::console::Console;
use crate::target::Target;

/// Write, build, look into, try out and sign plugins; take one back
#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    New(new::New),
    Build(build::Build),
    Inspect(inspect::Inspect),
    Run(run::Run),
    Rollback(rollback::Rollback),
    Key(key::Key),
    Sign(sign::Sign),
}

impl Plugin {
    /// Whether it asks a daemon for something, which may be one over the network.
    pub(crate) fn asks_daemon(&self) -> bool {
        matches!(self, Self::Rollback(_))
    }

    pub(crate) async fn execute(self, target: &Target, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::New(new) => new.execute(console),
            Self::Build(build) => build.execute(console).await,
            Self::Inspect(inspect) => inspect.execute(target.config("plugin inspect")?, console).await,
            Self::Run(run) => run.execute(console).await,
            Self::Rollback(rollback) => rollback.execute(target, console).await,
            Self::Key(key) => key.execute(console),
            Self::Sign(sign) => sign.execute(console),
        }
    }
}

/// Creates an engine for one component and one run at a time.
fn engine_for_one(budget: &Budget) -> Result<Engine, Failure> {
    Ok(Engine::new(sandhog_engine::Config {
        guest_threads: NonZeroUsize::MIN,
        instances: NonZeroU32::MIN,
        memory_max: budget.memory,
        table_elements_max: budget.table_elements,
        core_instances_max: budget.instances,
        backtrace_lines: true,
        compiler: Compiler::this_program(),
        cache: Some(config::default_cache()),
        ..sandhog_engine::Config::default()
    })?)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|cause| Failure::io(format!("read {}", file.display()), &cause))
}
