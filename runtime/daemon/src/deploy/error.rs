//! Why a plugin can't be deployed.

use std::path::PathBuf;

use sandhog_core::id::{PluginName, Revision, TenantId};
use sandhog_engine::Want;

use super::grants;
use super::store::StoreError;
use crate::deploy::signatures;

/// Why a plugin can't be deployed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its file can't be read.
    #[error("{file}: plugin {tenant}/{plugin}: can't read its component {path}: {cause}")]
    Unreadable {
        /// The plugin's TOML.
        file: PathBuf,
        /// Whose it is.
        tenant: TenantId,
        /// Its name.
        plugin: PluginName,
        /// The component.
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
    /// Its tenant demands signatures and this one has none that counts, or the file of its signature can't be read.
    #[error("plugin {tenant}/{plugin}: its component {path} can't be trusted: {cause}")]
    Untrusted {
        /// Whose it is.
        tenant: TenantId,
        /// Its name.
        plugin: PluginName,
        /// The component.
        path: PathBuf,
        /// Why not.
        cause: Box<signatures::Refusal>,
    },
    /// It asks for more than it is granted, and its tenant doesn't want that.
    #[error("{}", grants::refusal(file, tenant, plugin, missing))]
    MissingGrants {
        /// The plugin's TOML.
        file: PathBuf,
        /// Whose it is.
        tenant: TenantId,
        /// Its name.
        plugin: PluginName,
        /// What it asks for and doesn't get.
        missing: Vec<Want>,
    },
    /// It has no handler of a kind that its TOML lists, or what it declares are no kinds.
    #[error("{file}: plugin {tenant}/{plugin}: {problem}")]
    Kinds {
        /// The plugin's TOML.
        file: PathBuf,
        /// Whose it is.
        tenant: TenantId,
        /// Its name.
        plugin: PluginName,
        /// What is wrong, and which kinds there are.
        problem: String,
    },
    /// The engine won't have it.
    #[error("{file}: {cause}")]
    Refused {
        /// The plugin's TOML.
        file: PathBuf,
        /// Why.
        cause: sandhog_engine::Error,
    },
    /// Its smoke run has failed.
    #[error("{file}: plugin {tenant}/{plugin}: the smoke run of {kind} failed: {why}")]
    Smoke {
        /// The plugin's TOML.
        file: PathBuf,
        /// Whose it is.
        tenant: TenantId,
        /// Its name.
        plugin: PluginName,
        /// What was run.
        kind: String,
        /// How it ended.
        why: String,
    },
    /// The folder of deploys doesn't work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// Whether it would be the same at another time, as long as the plugin's files and terms are what they are. What the
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
