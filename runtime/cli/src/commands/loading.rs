//! Loading all plugins of a configuration.

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::thread;

use futures::{StreamExt, stream};
use sandhog_config::{self as config, Config};
use sandhog_daemon::deploy;
use sandhog_daemon::off_thread::off_thread;
use sandhog_engine::{Engine, Plugin};

use crate::exit::Failure;

/// Loads every plugin of a configuration, off the threads that mustn't block. `loaded` is called with each result.
///
/// # Errors
/// All errors, not just the first.
pub(crate) async fn load_all(
    engine: &Engine,
    config: &Config,
    loaded: impl Fn(&config::Plugin, &Result<Arc<Plugin>, deploy::Error>),
) -> Result<Vec<Arc<Plugin>>, Vec<deploy::Error>> {
    deploy::configure(engine, config).await;
    let (mut plugins, mut errors) = (Vec::new(), Vec::new());
    // The engine ensures that only one is compiled at a time.
    let at_once = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let results = stream::iter(&config.plugins).map(|terms| load(engine, config, terms)).buffered(at_once);
    let mut results = pin!(results.zip(stream::iter(&config.plugins)));
    while let Some((result, terms)) = results.next().await {
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

/// Creates one failure of the errors of plugins.
pub(crate) fn failure(errors: &[deploy::Error]) -> Failure {
    let lines: Vec<String> = errors.iter().map(|error| format!("error: {error}")).collect();
    let count = crate::output::of(errors.len() as u64, "plugin");
    Failure::list(format!("{}\n\n{count} can't be loaded", lines.join("\n")))
}
