//! Check of the kinds that a component declares against those that its plugin's TOML lists. Without it, a kind that nothing
//! handles would be found by its first job, which fails for good.

use sandhog_config as config;
use sandhog_core::id::Kind;
use sandhog_core::kinds::{Difference, compare};
use sandhog_engine::declared_kinds;

use super::error::Error;

/// Checks that a component has a handler of each kind that its plugin's TOML lists, as far as it declares them. Handlers that
/// the TOML leaves out are noted in the log.
///
/// # Errors
/// The component has no handler of some of the kinds, or what it declares are no kinds.
pub(super) fn check(terms: &config::Plugin, wasm: &[u8]) -> Result<(), Error> {
    let (tenant, plugin) = (&terms.tenant, &terms.name);
    let refused = |problem| Error::Kinds {
        file: terms.file.clone(),
        tenant: tenant.clone(),
        plugin: plugin.clone(),
        problem,
    };
    let declared = declared_kinds(wasm).map_err(|invalid| refused(invalid.to_string()))?;
    let Some(declared) = declared else { return Ok(()) };
    let Difference { unhandled, unlisted } = compare(&declared, &terms.kinds);
    if !unhandled.is_empty() {
        return Err(refused(format!(
            "its component has no handler of {}, which plugin.kinds lists; it has handlers of {}",
            listed(&unhandled),
            listed(&declared)
        )));
    }
    if !unlisted.is_empty() {
        let unlisted = listed(&unlisted);
        tracing::info!(%tenant, %plugin, unlisted, "its component has handlers of kinds that plugin.kinds doesn't list");
    }
    Ok(())
}

/// Maximum number of kinds that a message shows.
const SHOWN_MAX: usize = 20;

/// Lists kinds as text for a message.
fn listed(kinds: &[Kind]) -> String {
    if kinds.is_empty() {
        return "nothing".to_owned();
    }
    let mut texts: Vec<String> = kinds.iter().take(SHOWN_MAX).map(|kind| format!("`{kind}`")).collect();
    if kinds.len() > SHOWN_MAX {
        texts.push(format!("and {} more", kinds.len() - SHOWN_MAX));
    }
    texts.join(", ")
}
