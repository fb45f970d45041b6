//! Grants: what a plugin may reach.

mod caps;
mod http_target;
mod ranges;
mod reach;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::budget::Bytes;
use crate::secret::Secret;

pub use caps::{DirCap, GrantCaps, plain};
pub use http_target::{HttpTarget, InvalidTarget, address, undotted};
pub use ranges::{InvalidRange, Range, Ranges};
pub use reach::AddressRefusal;

/// Grants of a plugin: all that it may reach. The default grants nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Directories of the host that the guest sees.
    pub dirs: Vec<DirGrant>,
    /// Hosts to which requests may be sent.
    pub http: Vec<HttpGrant>,
    /// Environment variables, by name.
    pub env: Vec<(String, EnvValue)>,
    /// Secrets, by the name under which the guest asks for them.
    pub secrets: BTreeMap<String, Secret>,
}

/// A directory of the host that the guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirGrant {
    /// Path of the directory on the host.
    pub host: PathBuf,
    /// Path at which the guest sees the directory.
    pub guest: String,
    /// Access that the guest has.
    pub access: Access,
    /// Maximum size of what may lie there, with what a run adds. `None` for as much as the disk holds.
    pub quota: Option<Bytes>,
}

/// A host that requests may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGrant {
    /// Host and port.
    pub to: HttpTarget,
    /// Whether the host may resolve to a private address.
    pub private: Private,
}

/// Whether requests may go to addresses of this machine and of private networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Private {
    /// No, whatever a name resolves to.
    Refuse,
    /// Yes, except that link-local addresses and metadata services stay out of reach.
    Allow,
    /// Only to those in these ranges. Link-local addresses and metadata services stay out of reach.
    Within(Ranges),
}

/// Access to a granted directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// List and read.
    Read,
    /// List, read, write, create and remove.
    ReadWrite,
}

/// Value of an environment variable. Like a secret, it isn't shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// Written in the configuration as it is.
    Plain(String),
    /// Fetched from elsewhere, and kept as a secret is.
    Secret(Secret),
}

impl EnvValue {
    /// Returns the value in plain text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        match self {
            Self::Plain(value) => value,
            Self::Secret(secret) => secret.reveal(),
        }
    }
}

impl fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnvValue")
    }
}
