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
use tokio::time::timeout;

use super::error::Error;
use super::slot::Key;
use crate::off_thread::off_thread;

/// Maximum time for which a reload waits for the certificates that the machine trusts. They are in force whenever they have
/// been read.
const TRUST_MAX: Duration = Duration::from_secs(5);

/// Tells the engine what all plugins of a configuration are granted, and which addresses none of them reaches, and has it read
/// once more whom it trusts. To be called before any of them is loaded.
pub async fn configure(engine: &Engine, config: &Config) {
    engine.deny_http(config.http_deny.clone());
    let trusting = engine.clone();
    if timeout(TRUST_MAX, off_thread(move || trusting.trust_anew())).await.is_err() {
        tracing::warn!("the disk of the certificates that the machine trusts doesn't answer");
    }
    let (engine, plugins) = (engine.clone(), config.plugins.clone());
    off_thread(move || {
        engine.configure_grants(plugins.iter().map(|terms| (&terms.tenant, &terms.name, &terms.grants)));
    })
    .await;
}

/// Maximum number of plugins whose files are looked at together.
pub(super) const LOOKS: usize = 16;

/// Returns the plugins with a granted directory whose path leads elsewhere by now, or nowhere.
pub(super) async fn moved(plugins: impl Iterator<Item = (Key, Arc<Plugin>)>) -> BTreeSet<Key> {
    let with_dirs = plugins.filter(|(_, plugin)| !plugin.grants().dirs.is_empty());
    let looks = stream::iter(with_dirs).map(async |(key, plugin)| {
        let are_there = off_thread(move || plugin.has_its_directories()).await;
        (!are_there).then_some(key)
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
