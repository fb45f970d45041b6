//! Grants of plugins: what a component asks for and its `[grants]` don't give, and where the paths of granted directories
//! lead. To ask is not yet to need: many components import all of WASI.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future;
use futures::stream::{self, StreamExt};
use sandhog_config::{self as config, Config, MissingGrants};
use sandhog_core::id::{PluginName, TenantId};
use sandhog_engine::{Engine, NeededGrant, Plugin};

use super::error::Error;
use super::slot::Key;
use crate::off_thread::off_thread;

/// Maximum time for which disks may keep a deploy waiting that looks at where paths lead. What isn't known by then is left
/// aside.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Tells the engine what all plugins of a configuration are granted, and which addresses none of them reaches. To be called
/// before any of them is loaded.
pub async fn configure(engine: &Engine, config: &Config) {
    engine.deny_http(config.http_deny.clone());
    let (engine, plugins) = (engine.clone(), config.plugins.clone());
    let told = off_thread(move || {
        engine.configure_grants(plugins.iter().map(|terms| (&terms.tenant, &terms.name, &terms.grants)));
    });
    if tokio::time::timeout(LOOK_MAX, told).await.is_err() {
        tracing::warn!("a granted directory can't be looked at: its disk doesn't answer");
    }
}

/// Maximum number of plugins whose directories are looked at together. Each that lies on a disk that doesn't answer takes a
/// place for [`LOOK_MAX`].
const LOOKS: usize = 64;

/// Returns the plugins with a granted directory whose path leads elsewhere by now, or nowhere.
pub(super) async fn moved(plugins: impl Iterator<Item = (Key, Arc<Plugin>)>) -> BTreeSet<Key> {
    let with_dirs = plugins.filter(|(_, plugin)| !plugin.grants().dirs.is_empty());
    let looks = stream::iter(with_dirs).map(async |(key, plugin)| {
        let look = off_thread(move || plugin.has_its_directories());
        let are_there = tokio::time::timeout(LOOK_MAX, look).await;
        are_there.is_ok_and(|are_there| !are_there).then_some(key)
    });
    looks.buffer_unordered(LOOKS).filter_map(future::ready).collect().await
}

/// Logs what a component asks for and its grants don't give.
///
/// # Errors
/// Something is missing, and the tenant wants that to be an error.
pub(super) fn check(terms: &config::Plugin, loaded: &Plugin) -> Result<(), Error> {
    let missing = loaded.missing_grants();
    if missing.is_empty() {
        return Ok(());
    }
    let (tenant, plugin, file) = (terms.tenant.clone(), terms.name.clone(), terms.file.clone());
    if terms.missing_grants == MissingGrants::Refuse {
        return Err(Error::MissingGrants { file, tenant, plugin, missing });
    }
    let keys: Vec<String> =
        missing.iter().filter_map(|want| want.grant()).map(|key| format!("grants.{key}")).collect();
    let missing = keys.join(", ");
    tracing::info!(%tenant, %plugin, missing, "its component may ask for what it isn't granted");
    Ok(())
}

/// Formats the refusal as text, with a line for each missing grant that would give it.
pub(super) fn refusal(
    file: &Path,
    tenant: &TenantId,
    plugin: &PluginName,
    missing: &[NeededGrant],
) -> String {
    let lines: Vec<String> =
        missing.iter().filter_map(|want| Some(format!("{want} (such as `{}`)", want.line()?))).collect();
    format!(
        "{}: plugin {tenant}/{plugin} asks for what its [grants] don't give: {}; grant it, or set tenants.{tenant}.missing_grants = \"allow\"",
        file.display(),
        lines.join(", ")
    )
}
