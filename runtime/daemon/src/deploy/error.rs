//! Error of a deploy.

use std::path::PathBuf;

use sandhog_core::id::{PluginName, Revision, TenantId};
use sandhog_engine::NeededGrant;

use super::grants;
use super::store::StoreError;
use crate::deploy::signatures;

/// Reason why a plugin can't be deployed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The plugin's component can't be read.
    #[error("{file}: plugin {tenant}/{plugin}: can't read its component {path}: {cause}")]
    Unreadable {
        /// The plugin's TOML.
        file: PathBuf,
        /// The plugin's tenant.
        tenant: TenantId,
        /// The plugin's name.
        plugin: PluginName,
        /// Path of the component.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// The component is not the one that was pinned.
    #[error(
        "plugin {tenant}/{plugin}: the component {path} has sha256 {found}, and {file} pins {pinned}; \
         deploy the pinned component or change plugin.sha256"
    )]
    NotPinned {
        /// The plugin's tenant.
        tenant: TenantId,
        /// The plugin's name.
        plugin: PluginName,
        /// Path of the component.
        path: PathBuf,
        /// The plugin's TOML.
        file: PathBuf,
        /// Digest that was found.
        found: Box<Revision>,
        /// Digest that is pinned.
        pinned: Box<Revision>,
    },
    /// The plugin's tenant demands signatures and the component has none that counts, or the file of its signature can't be
    /// read.
    #[error("plugin {tenant}/{plugin}: its component {path} can't be trusted: {cause}")]
    Untrusted {
        /// The plugin's tenant.
        tenant: TenantId,
        /// The plugin's name.
        plugin: PluginName,
        /// Path of the component.
        path: PathBuf,
        /// Reason why it isn't trusted.
        cause: Box<signatures::Refusal>,
    },
    /// The plugin asks for more than it is granted, and its tenant doesn't want that.
    #[error("{}", grants::refusal(file, tenant, plugin, missing))]
    MissingGrants {
        /// The plugin's TOML.
        file: PathBuf,
        /// The plugin's tenant.
        tenant: TenantId,
        /// The plugin's name.
        plugin: PluginName,
        /// Grants that it asks for and doesn't get.
        missing: Vec<NeededGrant>,
    },
    /// The component has no handler of a kind that the plugin's TOML lists, or what it declares are no kinds.
    #[error("{file}: plugin {tenant}/{plugin}: {problem}")]
    Kinds {
        /// The plugin's TOML.
        file: PathBuf,
        /// The plugin's tenant.
        tenant: TenantId,
        /// The plugin's name.
        plugin: PluginName,
        /// Problem, and which kinds there are, as text for people.
        problem: String,
    },
    /// The engine refused the component.
    #[error("{file}: {cause}")]
    Refused {
        /// The plugin's TOML.
        file: PathBuf,
        /// The engine's error.
        cause: sandhog_engine::Error,
    },
    /// The plugin's smoke run has failed.
    #[error("{file}: plugin {tenant}/{plugin}: the smoke run of {kind} failed: {why}")]
    Smoke {
        /// The plugin's TOML.
        file: PathBuf,
        /// The plugin's tenant.
        tenant: TenantId,
        /// The plugin's name.
        plugin: PluginName,
        /// Kind of the sample job.
        kind: String,
        /// Outcome of the run, as text for people.
        why: String,
    },
    /// The folder of deploys can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// Whether the error would be the same at another time, as long as the plugin's files and terms are what they are. What the
    /// machine couldn't do just now, it may do then.
    pub(super) fn is_lasting(&self) -> bool {
        use sandhog_engine::Error as Refused;
        match self {
            Self::NotPinned { .. } | Self::MissingGrants { .. } | Self::Kinds { .. } => true,
            Self::Untrusted { cause, .. } => !matches!(**cause, signatures::Refusal::Unreadable { .. }),
            Self::Refused { cause, .. } => matches!(
                cause,
                Refused::TooLarge { .. } | Refused::Malformed { .. } | Refused::NotAHandler { .. }
            ),
            Self::Store(error) => error.is_lost(),
            Self::Unreadable { .. } | Self::Smoke { .. } => false,
        }
    }
}
