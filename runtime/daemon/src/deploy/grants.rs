//! What a plugin's component asks for and its `[grants]` don't give. To ask is not yet to need: many components import
//! all of WASI.

use std::path::Path;

use sandhog_core::id::{PluginName, TenantId};
use sandhog_engine::{Plugin, Want};

use super::error::Error;
use crate::config::{self, MissingGrants};

/// Says it in the log.
///
/// # Errors
/// If there is something and its tenant wants that to be an error.
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

/// The refusal in words, with a line for each that would grant it.
pub(super) fn refusal(file: &Path, tenant: &TenantId, plugin: &PluginName, missing: &[Want]) -> String {
    let lines: Vec<String> =
        missing.iter().filter_map(|want| Some(format!("{want} (such as `{}`)", want.line()?))).collect();
    format!(
        "{}: plugin {tenant}/{plugin} asks for what its [grants] don't give: {}; grant it, or set tenants.{tenant}.missing_grants = \"allow\"",
        file.display(),
        lines.join(", ")
    )
}
