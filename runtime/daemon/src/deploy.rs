//! From checked configuration to a catalog: reads, checks and loads the components.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use sandhog_core::admit::Offer;
use sandhog_core::compile::CompileBudget;
use sandhog_core::id::{PluginName, Revision, TenantId};
use sandhog_engine::{Engine, LoadSpec, Plugin};

use crate::catalog::{Catalog, PluginTerms, TenantTerms};
use crate::config::{self, Config};
use crate::provenance::{self, Signer};

/// Why a plugin can't be deployed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its file can't be read.
    #[error("plugin {tenant}/{plugin}: can't read its component {path}: {cause}")]
    Unreadable {
        /// Whose it is.
        tenant: TenantId,
        /// Its name.
        plugin: PluginName,
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It is not the one that was pinned.
    #[error(
        "plugin {tenant}/{plugin}: the component {path} has sha256 {found}, and {file} pins {pinned}; \
         deploy the pinned component or change plugin.sha256"
    )]
    NotPinned {
        /// Whose it is.
        tenant: TenantId,
        /// Its name.
        plugin: PluginName,
        /// The component.
        path: PathBuf,
        /// The plugin's TOML.
        file: PathBuf,
        /// What was found.
        found: Box<Revision>,
        /// What was to be found.
        pinned: Box<Revision>,
    },
    /// Its tenant demands signatures, and this one has none that counts.
    #[error("plugin {tenant}/{plugin}: its component {path} can't be trusted: {cause}")]
    Untrusted {
        /// Whose it is.
        tenant: TenantId,
        /// Its name.
        plugin: PluginName,
        /// The component.
        path: PathBuf,
        /// Why not.
        cause: Box<provenance::Refusal>,
    },
    /// The engine won't have it.
    #[error("{file}: {cause}")]
    Refused {
        /// The plugin's TOML.
        file: PathBuf,
        /// Why.
        cause: sandhog_engine::Error,
    },
}

/// Loads one plugin, which may take seconds when it has to be compiled.
///
/// # Errors
/// If its component can't be read, isn't the pinned one, isn't signed as `signers` demand (see [`provenance::check`]),
/// or the engine won't have it.
pub fn load(
    engine: &Engine,
    plugin: &config::Plugin,
    compile: CompileBudget,
    signers: &[Signer],
) -> Result<Arc<Plugin>, Error> {
    let wasm = fs::read(&plugin.component).map_err(|cause| Error::Unreadable {
        tenant: plugin.tenant.clone(),
        plugin: plugin.name.clone(),
        path: plugin.component.clone(),
        cause,
    })?;
    let found = sandhog_engine::revision_of(&wasm);
    if let Some(pinned) = plugin.sha256.filter(|pinned| *pinned != found) {
        return Err(Error::NotPinned {
            tenant: plugin.tenant.clone(),
            plugin: plugin.name.clone(),
            path: plugin.component.clone(),
            file: plugin.file.clone(),
            found: Box::new(found),
            pinned: Box::new(pinned),
        });
    }
    provenance::check(&plugin.component, found, signers).map_err(|cause| Error::Untrusted {
        tenant: plugin.tenant.clone(),
        plugin: plugin.name.clone(),
        path: plugin.component.clone(),
        cause: Box::new(cause),
    })?;
    let spec = LoadSpec {
        name: plugin.name.clone(),
        tenant: plugin.tenant.clone(),
        wasm,
        compile,
        grants: plugin.grants.clone(),
    };
    engine.load(spec).map(Arc::new).map_err(|cause| Error::Refused { file: plugin.file.clone(), cause })
}

/// The catalog of a configuration whose plugins are loaded: `loaded` has one for each of `config.plugins`, in order.
#[must_use]
pub fn catalog(config: &Config, loaded: Vec<Arc<Plugin>>) -> Catalog<Arc<Plugin>> {
    let mut tenants: BTreeMap<TenantId, TenantTerms<Arc<Plugin>>> =
        config.tenants.iter().map(|(id, tenant)| (id.clone(), tenant_terms(tenant))).collect();
    for (plugin, loaded) in config.plugins.iter().zip(loaded) {
        // Checked configuration declares the tenant of every plugin.
        let Some(tenant) = tenants.get_mut(&plugin.tenant) else { continue };
        tenant.plugins.push(PluginTerms {
            name: plugin.name.clone(),
            revision: loaded.revision(),
            kinds: plugin.kinds.clone(),
            queue: plugin.queue.clone(),
            keep: plugin.keep,
            concurrency: plugin.concurrency,
            offer: Offer {
                plugin: loaded,
                budget: config.budget(plugin),
                retry: plugin.retry,
                payload_max: plugin.payload,
            },
        });
    }
    Catalog::new(tenants)
}

fn tenant_terms<P>(tenant: &config::Tenant) -> TenantTerms<P> {
    let config::Tenant { weight, concurrency, memory, .. } = *tenant;
    TenantTerms { weight, concurrency, memory, plugins: Vec::new() }
}
