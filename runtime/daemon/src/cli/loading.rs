//! Loading all plugins of a configuration.

use std::sync::Arc;

use sandhog_engine::{Engine, Plugin};

use super::exit::Failure;
use crate::config::{self, Config};
use crate::deploy;
use crate::off_thread::off_thread;

/// Loads every plugin of a configuration, off the threads that mustn't wait. `loaded` gets to see each one.
///
/// # Errors
/// All that are wrong, not just the first.
pub(super) async fn load_all(
    engine: &Engine,
    config: &Config,
    loaded: impl Fn(&config::Plugin, &Result<Arc<Plugin>, deploy::Error>),
) -> Result<Vec<Arc<Plugin>>, Vec<deploy::Error>> {
    let (mut plugins, mut errors) = (Vec::new(), Vec::new());
    for terms in &config.plugins {
        // One after the other: compiling uses all cores as it is.
        let result = load(engine, config, terms).await;
        loaded(terms, &result);
        match result {
            Ok(plugin) => plugins.push(plugin),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(plugins) } else { Err(errors) }
}

async fn load(
    engine: &Engine,
    config: &Config,
    terms: &config::Plugin,
) -> Result<Arc<Plugin>, deploy::Error> {
    let (engine, compile, signers) =
        (engine.clone(), config.compile_budget(terms), config.signers(terms).to_vec());
    let terms = terms.clone();
    off_thread(move || deploy::load(&engine, &terms, compile, &signers)).await
}

/// What is wrong with plugins, as one failure.
pub(super) fn failure(errors: &[deploy::Error]) -> Failure {
    let lines: Vec<String> = errors.iter().map(|error| format!("error: {error}")).collect();
    let count = super::render::of(errors.len() as u64, "plugin");
    Failure::list(format!("{}\n\n{count} can't be loaded", lines.join("\n")))
}
